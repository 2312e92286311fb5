//! Many agents on one relay: ownership of jobs, the connection that counts, and matching versions.

use common::event::{Event, EventBody, FailureKind};
use common::ids::JobId;
use common::record::{Link as Connected, State};
use common::wire::{self, AgentFrame, Hello, JobProgress, PROTOCOL, RelayFrame};
use relay_tests::harness::figures::figure;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};
use relay_tests::simulated_agent::link::{begun, completed, hello, message};
use relay_tests::simulated_agent::{Door, Ended, Link, block_on};

/// More slots than the site's own agent has: a new job goes to the agent with the most free slots.
const ROOM: u32 = 50;

fn site() -> (Site, Door) {
    let site = Site::up(Engine::Local);
    let door = Door::of(&site);
    (site, door)
}

/// Connects an agent and launches a job of the site that runs there.
async fn with_job(site: &Site, door: &Door, agent: &str, room: u32) -> (Link, JobId) {
    let (mut link, _) = Link::welcomed(door, hello(agent, room, Vec::new())).await.unwrap();
    let launched = site.launch_shell("unused", &[]);
    let (job, epoch) = link.started().await.unwrap();
    assert_eq!((job.to_string(), epoch), (launched, 1));
    link.events(&job, 1, 1, begun(agent)).await.unwrap();
    link.acked(&job, 2).await.unwrap();
    (link, job)
}

fn held(job: &JobId, epoch: u32, last_seq: u64) -> Vec<JobProgress> {
    vec![JobProgress { job: job.clone(), epoch, last_seq }]
}

/// Events that the agents have sent for a job, from its log.
fn said(site: &Site, job: &JobId) -> Vec<EventBody> {
    let lines = site.events(&job.to_string());
    lines.into_iter().filter(|line| line.epoch > 0).map(|line| line.event.unwrap().body).collect()
}

#[test]
fn each_agent_has_its_own_jobs_and_its_loss_is_no_news_of_another_s() {
    let (site, door) = site();
    block_on(async {
        let (a, of_a) = with_job(&site, &door, "agent-a", ROOM).await;
        let (mut b, of_b) = with_job(&site, &door, "agent-b", ROOM + 10).await;
        drop(a);
        let lost =
            site.record_when(&of_a.to_string(), "is lost", |record| record.link == Some(Connected::Lost));
        assert_eq!((lost.state, lost.agent.as_deref()), (State::Running, Some("agent-a")));
        assert_eq!(site.record(&of_b.to_string()).link, Some(Connected::Connected));
        let lease = site.relay(&["up", "--json"]);
        let lease: serde_json::Value = serde_json::from_str(&lease).unwrap();
        assert_eq!(lease["platform"]["agents"], 2, "the platform's own and agent-b: {lease}");

        // The agent reconnects without the job: that ends this job and no other.
        let (_a, _) = Link::welcomed(&door, hello("agent-a", ROOM, Vec::new())).await.unwrap();
        let ended = site.ended(&of_a.to_string());
        assert_eq!(outcome(&ended), (State::Failed, Some(FailureKind::AgentLost)));
        b.events(&of_b, 1, 3, vec![completed()]).await.unwrap();
        b.acked(&of_b, 3).await.unwrap();
        assert_eq!(site.ended(&of_b.to_string()).state, State::Completed);
    });
}

/// Soft limit of a process on open files.
fn open_files(pid: u32) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_relay_raises_its_limit_of_open_files_and_its_workers_keep_the_original_one() {
    let site = Site::new(Engine::Local);
    let up = site.command(&["up"]);
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=256:4000").arg(up.get_program()).args(up.get_args()).current_dir(site.root());
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    assert!(limited.status().unwrap().success());
    let job = site.launch_shell("ulimit -n; ulimit -Hn", &[]);
    site.ended(&job);
    assert_eq!((open_files(site.daemon_pid()).as_str(), site.log(&job).as_str()), ("4000", "256\n4000\n"));
}

/// Every frame that an agent can send about a job.
fn frames(job: &JobId, epoch: u32) -> [AgentFrame; 5] {
    let at = jiff::Timestamp::now();
    let batch = |bodies: Vec<EventBody>| bodies.into_iter().map(|body| Event { at, body }).collect();
    let job = || job.clone();
    [
        AgentFrame::Events { job: job(), epoch, first_seq: 3, batch: batch(vec![completed()]) },
        AgentFrame::Events { job: job(), epoch, first_seq: 1, batch: batch(begun("thief")) },
        AgentFrame::Output { job: job(), epoch, offset: 0, bytes: b"forged".to_vec() },
        AgentFrame::Accepted { job: job(), epoch },
        AgentFrame::Refused { job: job(), epoch, reason: "no".into(), is_busy: false },
    ]
}

#[test]
fn x16_nothing_is_taken_of_an_agent_that_speaks_of_another_s_job() {
    let (site, door) = site();
    block_on(async {
        let (mut owner, job) = with_job(&site, &door, "owner", ROOM).await;
        let before = site.events(&job.to_string());
        let (mut tries, mut closed) = (0, 0);
        for (epoch, frame) in [1, 2].into_iter().flat_map(|epoch| frames(&job, epoch).map(|f| (epoch, f))) {
            tries += 1;
            let hello = hello("thief", 0, held(&job, epoch, 9));
            let (mut thief, durable) = Link::welcomed(&door, hello).await.unwrap();
            assert!(durable[0].closed && durable[0].seq == 0 && durable[0].output == 0, "{durable:?}");
            thief.send(&frame).await.unwrap();
            if matches!(frame, AgentFrame::Events { .. } | AgentFrame::Output { .. }) {
                let ended = thief.ended().await;
                assert!(matches!(ended, Ended::Closed(wire::CLOSE_PROTOCOL, _)), "{ended:?}");
                closed += 1;
            }
        }
        // The owner continues where it was, and no event was added in between.
        owner.events(&job, 1, 3, vec![message("mine")]).await.unwrap();
        owner.acked(&job, 3).await.unwrap();
        let after = site.events(&job.to_string());
        assert_eq!(after[..before.len()], before);
        assert_eq!(after.len(), before.len() + 1);
        assert_eq!(site.log(&job.to_string()), "");
        owner.events(&job, 1, 4, vec![completed()]).await.unwrap();
        owner.acked(&job, 4).await.unwrap();
        figure(&format!("X16: {tries} frames of another agent: 0 recorded, {closed} connections closed"));
    });
}

#[test]
fn x16_a_queued_job_is_nobody_s_until_it_is_offered() {
    let (site, door) = site();
    // The site's own agent is full, so the last of these waits.
    let busy: Vec<String> = (0..4).map(|_| site.launch_shell("sleep 1000", &[])).collect();
    for job in &busy {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let waiting: JobId = site.launch_shell("true", &[]).parse().unwrap();
    block_on(async {
        let hello = hello("thief", 0, held(&waiting, 1, 2));
        let (mut thief, durable) = Link::welcomed(&door, hello).await.unwrap();
        assert!(durable[0].closed, "{durable:?}");
        thief.events(&waiting, 1, 1, begun("thief")).await.unwrap();
        let ended = thief.ended().await;
        assert!(matches!(ended, Ended::Closed(wire::CLOSE_PROTOCOL, _)), "{ended:?}");
    });
    assert_eq!(site.record(&waiting.to_string()).state, State::Queued);
}

#[test]
fn n14_a_replayed_session_with_an_old_epoch_is_fenced() {
    let (site, door) = site();
    block_on(async {
        let (mut link, job) = with_job(&site, &door, "agent", ROOM).await;
        // The agent starts its second run of the same job, which ends the first one.
        link.events(&job, 2, 1, begun("agent")).await.unwrap();
        link.acked(&job, 2).await.unwrap();
        let before = said(&site, &job);
        let mut replayed = 0;
        for first_seq in 1..=4 {
            let hello = hello("agent", ROOM, [held(&job, 1, 4), held(&job, 2, 2)].concat());
            let (mut old, durable) = Link::welcomed(&door, hello).await.unwrap();
            let closed: Vec<bool> = durable.iter().map(|held| held.closed).collect();
            assert_eq!(closed, [true, false], "nothing more is wanted of the old run");
            old.events(&job, 1, first_seq, vec![completed()]).await.unwrap();
            let ended = old.ended().await;
            assert!(matches!(&ended, Ended::Closed(_, reason) if reason.contains("epoch")), "{ended:?}");
            replayed += 1;
        }
        let (mut link, durable) =
            Link::welcomed(&door, hello("agent", ROOM, held(&job, 2, 2))).await.unwrap();
        assert_eq!((durable[0].closed, durable[0].seq), (false, 2));
        assert_eq!(said(&site, &job), before);
        link.events(&job, 2, 3, vec![completed()]).await.unwrap();
        link.acked(&job, 3).await.unwrap();
        figure(&format!("N14: {replayed} batches of an old epoch: accepted 0"));
    });
}

#[test]
fn n14_nothing_is_taken_from_an_older_connection_once_a_newer_one_is_welcomed() {
    let (site, door) = site();
    block_on(async {
        let (mut old, job) = with_job(&site, &door, "agent", ROOM).await;
        let mut stale = 0;
        for round in 0..5 {
            let hello = hello("agent", ROOM, held(&job, 1, 2));
            let (new, durable) = Link::welcomed(&door, hello).await.unwrap();
            assert_eq!(durable[0].seq, 2, "round {round}");
            // The relay may close the connection before it has sent all of this.
            for seq in 3..100 {
                if old.events(&job, 1, seq, vec![message("stale")]).await.is_err() {
                    break;
                }
                stale += 1;
            }
            old.ended().await;
            old = new;
        }
        assert_eq!(said(&site, &job), begun("agent"));
        old.events(&job, 1, 3, vec![completed()]).await.unwrap();
        old.acked(&job, 3).await.unwrap();
        figure(&format!("N14: {stale} batches on connections that were replaced: accepted 0"));
    });
}

/// Returns the relay's answer to a hello of these versions that ends with fields unknown to every version.
async fn greet(door: &Door, min: u32, max: u32, more: &[u8]) -> Result<RelayFrame, Ended> {
    let offer =
        Hello { protocol_min: min, protocol_max: max, version: "9.8.7".into(), ..hello("x", 1, vec![]) };
    let mut bytes = wire::encode_hello(offer).unwrap();
    bytes.extend_from_slice(more);
    let mut link = Link::dial(door).await?;
    link.send_bytes(bytes).await?;
    link.next().await
}

#[test]
fn n16_common_versions_are_welcomed_and_others_are_told_both_whatever_else_they_say() {
    let (_site, door) = site();
    let newest = PROTOCOL + 7;
    let matrix = [
        ("same", wire::PROTOCOL_MIN, PROTOCOL, &b""[..], true),
        ("newer, overlapping", wire::PROTOCOL_MIN, newest, b"more fields", true),
        ("older, overlapping", 0, wire::PROTOCOL_MIN, b"", true),
        ("newer alone", PROTOCOL + 1, newest, b"more fields", false),
        ("older alone", 0, wire::PROTOCOL_MIN - 1, b"", false),
    ];
    block_on(async {
        let (mut welcomed, mut refused) = (0, 0);
        for (what, min, max, more, fits) in matrix {
            match greet(&door, min, max, more).await {
                Ok(RelayFrame::Welcome { protocol, .. }) if fits => {
                    assert_eq!(protocol, PROTOCOL.min(max), "{what}");
                    welcomed += 1;
                }
                Err(Ended::Closed(wire::CLOSE_VERSION, reason)) if !fits => {
                    let named = reason.contains("agent 9.8.7") && reason.contains(env!("CARGO_PKG_VERSION"));
                    assert!(named && reason.contains(&format!("{min} to {max}")), "{what}: {reason}");
                    refused += 1;
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        // A broken frame, which is not a matter of versions.
        let broken = greet(&door, wire::PROTOCOL_MIN, PROTOCOL, b"more fields").await;
        assert!(matches!(broken, Err(Ended::Closed(wire::CLOSE_PROTOCOL, _))), "{broken:?}");
        figure(&format!(
            "N16: matrix over sockets: {welcomed} welcomed, {refused} refused by a close that names both versions"
        ));
    });
}
