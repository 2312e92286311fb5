//! Several agents on one relay: each job has one owner, each agent one valid connection, and versions must match.

use common::event::{Event, EventBody, FailureKind};
use common::ids::JobId;
use common::record::{Link as Connected, State};
use common::wire::{self, AgentFrame, Hello, JobProgress, PROTOCOL, RelayFrame};
use relay_tests::harness::figures::figure;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};
use relay_tests::simulated_agent::connection::{completed_event, first_events, hello, message};
use relay_tests::simulated_agent::{Connection, ConnectionEnd, Endpoint, block_on};

/// Number of slots of a simulated agent: more than the site's own agent has, so that it gets the next job.
const SLOTS: u32 = 50;

fn site() -> (Site, Endpoint) {
    let site = Site::up(Engine::Local);
    let endpoint = Endpoint::of_site(&site);
    (site, endpoint)
}

/// Connects a simulated agent and launches a job, which then runs on that agent.
async fn connect_with_job(site: &Site, endpoint: &Endpoint, agent: &str, slots: u32) -> (Connection, JobId) {
    let (mut connection, _) = Connection::handshake(endpoint, hello(agent, slots, Vec::new())).await.unwrap();
    let launched = site.launch_shell("unused", &[]);
    let (job, epoch) = connection.wait_for_start().await.unwrap();
    assert_eq!((job.to_string(), epoch), (launched, 1));
    connection.send_events(&job, 1, 1, first_events(agent)).await.unwrap();
    connection.wait_for_ack(&job, 2).await.unwrap();
    (connection, job)
}

/// Returns what an agent says of one job in its hello.
fn progress(job: &JobId, epoch: u32, last_seq: u64) -> Vec<JobProgress> {
    vec![JobProgress { job: job.clone(), epoch, last_seq }]
}

/// Returns the agents' events in the log of a job.
fn agent_events(site: &Site, job: &JobId) -> Vec<EventBody> {
    let lines = site.events(&job.to_string());
    lines.into_iter().filter(|line| line.epoch > 0).map(|line| line.event.unwrap().body).collect()
}

#[test]
fn a_lost_agent_loses_its_own_jobs_and_those_of_another_agent_go_on() {
    let (site, endpoint) = site();
    block_on(async {
        let (a, of_a) = connect_with_job(&site, &endpoint, "agent-a", SLOTS).await;
        let (mut b, of_b) = connect_with_job(&site, &endpoint, "agent-b", SLOTS + 10).await;
        drop(a);
        let lost =
            site.record_when(&of_a.to_string(), "is lost", |record| record.link == Some(Connected::Lost));
        assert_eq!((lost.state, lost.agent.as_deref()), (State::Running, Some("agent-a")));
        assert_eq!(site.record(&of_b.to_string()).link, Some(Connected::Connected));
        let lease = site.relay(&["up", "--json"]);
        let lease: serde_json::Value = serde_json::from_str(&lease).unwrap();
        assert_eq!(lease["platform"]["agents"], 2, "the platform's own and agent-b: {lease}");

        // The agent reconnects and no longer has its job: that ends this job and no other.
        let (_a, _) = Connection::handshake(&endpoint, hello("agent-a", SLOTS, Vec::new())).await.unwrap();
        let ended = site.ended(&of_a.to_string());
        assert_eq!(outcome(&ended), (State::Failed, Some(FailureKind::AgentLost)));
        b.send_events(&of_b, 1, 3, vec![completed_event()]).await.unwrap();
        b.wait_for_ack(&of_b, 3).await.unwrap();
        assert_eq!(site.ended(&of_b.to_string()).state, State::Completed);
    });
}

/// Returns the soft limit of a process on open files.
fn open_files_limit(pid: u32) -> String {
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
    assert_eq!(
        (open_files_limit(site.daemon_pid()).as_str(), site.log(&job).as_str()),
        ("4000", "256\n4000\n")
    );
}

/// Returns every kind of frame that an agent can send about a job.
fn frames_about(job: &JobId, epoch: u32) -> [AgentFrame; 5] {
    let at = jiff::Timestamp::now();
    let batch = |bodies: Vec<EventBody>| bodies.into_iter().map(|body| Event { at, body }).collect();
    let job = || job.clone();
    [
        AgentFrame::Events { job: job(), epoch, first_seq: 3, batch: batch(vec![completed_event()]) },
        AgentFrame::Events { job: job(), epoch, first_seq: 1, batch: batch(first_events("thief")) },
        AgentFrame::Output { job: job(), epoch, offset: 0, bytes: b"forged".to_vec() },
        AgentFrame::Accepted { job: job(), epoch },
        AgentFrame::Refused { job: job(), epoch, reason: "no".into(), is_busy: false },
    ]
}

#[test]
fn x16_no_frame_of_an_agent_about_a_job_of_another_agent_is_recorded() {
    let (site, endpoint) = site();
    block_on(async {
        let (mut owner, job) = connect_with_job(&site, &endpoint, "owner", SLOTS).await;
        let before = site.events(&job.to_string());
        let (mut tries, mut closed) = (0, 0);
        for (epoch, frame) in
            [1, 2].into_iter().flat_map(|epoch| frames_about(&job, epoch).map(|f| (epoch, f)))
        {
            tries += 1;
            let hello = hello("thief", 0, progress(&job, epoch, 9));
            let (mut thief, durable) = Connection::handshake(&endpoint, hello).await.unwrap();
            assert!(durable[0].closed && durable[0].seq == 0 && durable[0].output == 0, "{durable:?}");
            thief.send(&frame).await.unwrap();
            if matches!(frame, AgentFrame::Events { .. } | AgentFrame::Output { .. }) {
                let ended = thief.wait_for_end().await;
                assert!(matches!(ended, ConnectionEnd::Closed(wire::CLOSE_PROTOCOL, _)), "{ended:?}");
                closed += 1;
            }
        }
        // The owner continues where it was, and no event was added in between.
        owner.send_events(&job, 1, 3, vec![message("mine")]).await.unwrap();
        owner.wait_for_ack(&job, 3).await.unwrap();
        let after = site.events(&job.to_string());
        assert_eq!(after[..before.len()], before);
        assert_eq!(after.len(), before.len() + 1);
        assert_eq!(site.log(&job.to_string()), "");
        owner.send_events(&job, 1, 4, vec![completed_event()]).await.unwrap();
        owner.wait_for_ack(&job, 4).await.unwrap();
        figure(&format!(
            "{tries} frames of another agent (fault X16): 0 recorded, {closed} connections closed"
        ));
    });
}

#[test]
fn x16_no_agent_can_report_on_a_queued_job_before_it_is_offered() {
    let (site, endpoint) = site();
    // The site's own agent is full, so the last of these waits.
    let busy: Vec<String> = (0..4).map(|_| site.launch_shell("sleep 1000", &[])).collect();
    for job in &busy {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let waiting: JobId = site.launch_shell("true", &[]).parse().unwrap();
    block_on(async {
        let hello = hello("thief", 0, progress(&waiting, 1, 2));
        let (mut thief, durable) = Connection::handshake(&endpoint, hello).await.unwrap();
        assert!(durable[0].closed, "{durable:?}");
        thief.send_events(&waiting, 1, 1, first_events("thief")).await.unwrap();
        let ended = thief.wait_for_end().await;
        assert!(matches!(ended, ConnectionEnd::Closed(wire::CLOSE_PROTOCOL, _)), "{ended:?}");
    });
    assert_eq!(site.record(&waiting.to_string()).state, State::Queued);
}

#[test]
fn n14_events_of_an_old_epoch_are_refused() {
    let (site, endpoint) = site();
    block_on(async {
        let (mut connection, job) = connect_with_job(&site, &endpoint, "agent", SLOTS).await;
        // The agent starts its second run of the same job, which ends the first one.
        connection.send_events(&job, 2, 1, first_events("agent")).await.unwrap();
        connection.wait_for_ack(&job, 2).await.unwrap();
        let before = agent_events(&site, &job);
        let mut replayed = 0;
        for first_seq in 1..=4 {
            let hello = hello("agent", SLOTS, [progress(&job, 1, 4), progress(&job, 2, 2)].concat());
            let (mut old, durable) = Connection::handshake(&endpoint, hello).await.unwrap();
            let closed: Vec<bool> = durable.iter().map(|held| held.closed).collect();
            assert_eq!(closed, [true, false], "the old run is closed");
            old.send_events(&job, 1, first_seq, vec![completed_event()]).await.unwrap();
            let ended = old.wait_for_end().await;
            assert!(
                matches!(&ended, ConnectionEnd::Closed(_, reason) if reason.contains("epoch")),
                "{ended:?}"
            );
            replayed += 1;
        }
        let (mut connection, durable) =
            Connection::handshake(&endpoint, hello("agent", SLOTS, progress(&job, 2, 2))).await.unwrap();
        assert_eq!((durable[0].closed, durable[0].seq), (false, 2));
        assert_eq!(agent_events(&site, &job), before);
        connection.send_events(&job, 2, 3, vec![completed_event()]).await.unwrap();
        connection.wait_for_ack(&job, 3).await.unwrap();
        figure(&format!("{replayed} batches of an old epoch (fault N14): accepted 0"));
    });
}

#[test]
fn n14_events_on_a_connection_are_refused_once_a_newer_one_is_welcomed() {
    let (site, endpoint) = site();
    block_on(async {
        let (mut old, job) = connect_with_job(&site, &endpoint, "agent", SLOTS).await;
        let mut stale = 0;
        for round in 0..5 {
            let hello = hello("agent", SLOTS, progress(&job, 1, 2));
            let (new, durable) = Connection::handshake(&endpoint, hello).await.unwrap();
            assert_eq!(durable[0].seq, 2, "round {round}");
            // The relay may close the connection before it has sent all of this.
            for seq in 3..100 {
                if old.send_events(&job, 1, seq, vec![message("stale")]).await.is_err() {
                    break;
                }
                stale += 1;
            }
            old.wait_for_end().await;
            old = new;
        }
        assert_eq!(agent_events(&site, &job), first_events("agent"));
        old.send_events(&job, 1, 3, vec![completed_event()]).await.unwrap();
        old.wait_for_ack(&job, 3).await.unwrap();
        figure(&format!("{stale} batches on connections that were replaced (fault N14): accepted 0"));
    });
}

/// Returns the relay's answer to a hello of the versions `min` to `max`, which ends with unknown bytes.
async fn answer_to_hello(
    endpoint: &Endpoint,
    min: u32,
    max: u32,
    extra: &[u8],
) -> Result<RelayFrame, ConnectionEnd> {
    let offer =
        Hello { protocol_min: min, protocol_max: max, version: "9.8.7".into(), ..hello("x", 1, vec![]) };
    let mut bytes = wire::encode_hello(offer).unwrap();
    bytes.extend_from_slice(extra);
    let mut connection = Connection::connect(endpoint).await?;
    connection.send_bytes(bytes).await?;
    connection.next().await
}

#[test]
fn n16_common_versions_are_welcomed_and_others_get_a_reason_with_both_versions() {
    let (_site, endpoint) = site();
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
            match answer_to_hello(&endpoint, min, max, more).await {
                Ok(RelayFrame::Welcome { protocol, .. }) if fits => {
                    assert_eq!(protocol, PROTOCOL.min(max), "{what}");
                    welcomed += 1;
                }
                Err(ConnectionEnd::Closed(wire::CLOSE_VERSION, reason)) if !fits => {
                    let named = reason.contains("agent 9.8.7") && reason.contains(env!("CARGO_PKG_VERSION"));
                    assert!(named && reason.contains(&format!("{min} to {max}")), "{what}: {reason}");
                    refused += 1;
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        // Extra bytes without a newer version are a broken frame.
        let broken = answer_to_hello(&endpoint, wire::PROTOCOL_MIN, PROTOCOL, b"more fields").await;
        assert!(matches!(broken, Err(ConnectionEnd::Closed(wire::CLOSE_PROTOCOL, _))), "{broken:?}");
        figure(&format!(
            "agents of all protocol versions (fault N16): {welcomed} welcomed, {refused} refused by a close that names both versions"
        ));
    });
}
