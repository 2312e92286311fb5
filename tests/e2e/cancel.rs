//! Cancelled and completed jobs leave no processes behind.

use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

#[test]
fn a_cancel_also_ends_processes_that_moved_to_other_sessions() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell(
        "setsid sleep 1000 & (setsid sh -c 'sleep 1001' </dev/null >/dev/null 2>&1 &); \
         sh -c 'trap \"\" TERM; sleep 1002' & nohup sleep 1003 & sleep 1004",
        &[],
    );
    site.wait_for_commands(&["sleep 1000", "sleep 1001", "sleep 1002", "sleep 1003", "sleep 1004"]);
    let stdout = site.relay(&["cancel", "--grace", "1s", &job]);
    assert!(stdout.contains("cancelled"), "{stdout}");
    assert_eq!(site.workspace_processes(), []);
    let record = site.record(&job);
    assert_eq!(outcome(&record), (State::Cancelled, None));
    let cleanup = record.cleanup.unwrap();
    assert!(cleanup.killed >= 1 && cleanup.survivors == 0, "{cleanup:?}");
    assert_eq!(site.run(&["status", "--exit-code", &job]).status.code(), Some(130));
    assert_eq!(site.run(&["wait", &job]).status.code(), Some(130));
}

#[test]
fn a_queued_job_is_cancelled_without_ever_running() {
    let site = Site::new(Engine::Local);
    site.configure("max_jobs = 1\n[codex]\nsandbox = \"off\"\n");
    let first = site.launch_running("sleep 1000", &[]);
    let second = site.launch_shell("touch never", &[]);
    site.relay(&["cancel", &second]);
    let record = site.record(&second);
    assert_eq!((record.state, record.epoch), (State::Cancelled, 0));
    site.relay(&["cancel", "--grace", "1s", &first]);
    assert!(!site.workspace().join("never").exists());
}

#[test]
fn a_cancel_that_is_repeated_or_comes_too_late_is_harmless() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &[]);
    site.ended(&job);
    for _ in 0..2 {
        site.relay(&["cancel", &job]);
    }
    assert_eq!(site.record(&job).state, State::Completed);
}

#[test]
fn processes_that_a_completed_job_left_behind_are_killed() {
    let site = Site::new(Engine::Local);
    let record = site.ended(&site.launch_shell("setsid sleep 1000 </dev/null >/dev/null 2>&1 & exit 0", &[]));
    assert_eq!(outcome(&record), (State::Completed, None));
    assert_eq!(record.cleanup.map(|cleanup| (cleanup.killed, cleanup.survivors)), Some((1, 0)));
    assert_eq!(site.workspace_processes(), []);
}
