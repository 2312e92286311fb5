//! Recovery after relay or agent was killed or frozen, or files of the registry were damaged.

use std::fs;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::{Link, State};
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until};

/// Waits until the agent is running; returns its process id.
pub(crate) fn agent_pid(site: &Site) -> u32 {
    let state = site.agent();
    // A new child process of the agent has the agent's command line for a moment.
    let agents = until("there is one agent", || {
        let agents = processes::running(&format!("run --state {}", state.display()));
        (agents.len() == 1).then_some(agents)
    });
    agents[0].pid
}

#[test]
fn a_worker_goes_on_while_the_relay_is_dead_and_its_record_is_complete() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo before; until test -e go; do sleep 0.02; done; echo after", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    let workers = site.workspace_processes();
    processes::kill(site.daemon_pid());
    site.write("workspace-projects/demo/go", "");
    until("the worker has ended by itself", || site.workspace_processes().is_empty().then_some(()));
    assert!(!workers.is_empty());
    assert_eq!(site.record(&job).state, State::Running, "no relay has recorded the end yet");
    site.relay(&["up"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None));
    assert_eq!(site.log(&job), "before\nafter\n");
    let types: Vec<String> = site
        .events(&job)
        .iter()
        .map(|line| serde_json::to_value(&line.event.as_ref().unwrap().body).unwrap())
        .map(|body| body.as_object().unwrap().keys().next().unwrap().clone())
        .collect();
    assert!(
        types.contains(&"link_lost".to_owned()) && types.contains(&"link_restored".to_owned()),
        "{types:?}"
    );
}

#[test]
fn a_relay_that_is_killed_again_and_again_loses_and_duplicates_nothing() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done", &[]);
    for _ in 0..4 {
        site.relay(&["up"]);
        processes::kill(site.daemon_pid());
    }
    site.relay(&["up"]);
    site.ended(&job);
    let expected: Vec<String> = (1..=8).map(|i| format!("line {i}")).collect();
    assert_eq!(site.log(&job).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn workers_of_a_killed_agent_are_ended_and_their_jobs_end_as_lost() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("setsid sleep 1000 & sleep 1001", &[]);
    site.wait_for_commands(&["sleep 1000", "sleep 1001"]);
    processes::kill(agent_pid(&site));
    let record = site.ended(&job);
    assert_eq!(site.workspace_processes(), [], "the outcome is recorded after the last process has ended");
    assert_eq!(outcome(&record), (State::Failed, Some(common::event::FailureKind::AgentLost)));
    let cleanup = record.cleanup.unwrap();
    assert!(cleanup.killed >= 3 && cleanup.survivors == 0, "{cleanup:?}");
    assert_eq!(site.run(&["wait", &job]).status.code(), Some(125));
    let next = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&next).state, State::Completed);
}

#[test]
fn the_death_of_an_agent_is_recorded_at_once_and_a_new_one_is_started() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running("sleep 1000", &[]);
    let since = Instant::now();
    processes::kill(agent_pid(&site));
    let cause = until("the loss is recorded", || {
        site.events(&job).into_iter().find_map(|line| match line.event?.body {
            EventBody::LinkLost { reason } => Some(reason),
            _ => None,
        })
    });
    let seen = since.elapsed();
    assert_eq!(cause, "the agent's process has ended");
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(common::event::FailureKind::AgentLost)));
    let healed = since.elapsed();
    // Silence would be noticed after 14 s.
    assert!(seen < Duration::from_secs(12), "{seen:?}");
    figure(&format!("agent killed on the host: recorded after {}, healed after {}", ms(seen), ms(healed)));
}

#[test]
fn a_frozen_agent_is_detected_by_its_silence_and_its_job_goes_on_afterwards() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done; echo done", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    let frozen = rustix::process::Pid::from_raw(i32::try_from(agent_pid(&site)).unwrap()).unwrap();
    rustix::process::kill_process(frozen, rustix::process::Signal::STOP).unwrap();
    let since = Instant::now();
    let lost = site.record_when(&job, "is without a connection", |record| record.link == Some(Link::Lost));
    let seen = since.elapsed();
    assert_eq!(lost.state, State::Running);
    rustix::process::kill_process(frozen, rustix::process::Signal::CONT).unwrap();
    let since = Instant::now();
    site.record_when(&job, "is back", |record| record.link == Some(Link::Connected));
    let healed = since.elapsed();
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    assert!(seen < Duration::from_secs(60), "{seen:?}");
    figure(&format!("agent frozen: recorded after {}, healed {} after it went on", ms(seen), ms(healed)));
}

#[test]
fn a_deleted_or_damaged_record_is_rebuilt_from_its_log() {
    let site = Site::new(Engine::Local);
    let running = site.launch_shell("sleep 1000", &[]);
    let ended = site.launch_shell("true", &[]);
    site.record_when(&running, "runs", |record| record.state == State::Running);
    site.ended(&ended);
    processes::kill(site.daemon_pid());
    let path = site.registry().join("demo.2.json");
    let before = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(site.registry().join("demo.1.json"), "garbage").unwrap();
    let events = site.registry().join("demo.1.events.jsonl");
    let mut torn = fs::read(&events).unwrap();
    torn.extend_from_slice(b"{\"v\":1,\"id\":99,\"jo");
    fs::write(&events, torn).unwrap();
    site.relay(&["up"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    site.record_when(&running, "is connected", |record| record.link == Some(Link::Connected));
    site.relay(&["cancel", "--grace", "1s", &running]);
}

#[test]
fn relay_down_is_refused_while_a_job_runs_unless_it_is_forced() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running("sleep 1000", &[]);
    assert!(site.refused(2, &["down"]).contains(&job));
    site.relay(&["down", "--force"]);
    let record = site.record(&job);
    assert_eq!(record.state, State::Failed, "{record:#?}");
    let last = site.events(&job).pop().unwrap().event.unwrap().body;
    assert!(matches!(last, EventBody::Finished { .. }), "{last:?}");
    assert_eq!(site.workspace_processes(), []);
    site.relay(&["down"]);
}
