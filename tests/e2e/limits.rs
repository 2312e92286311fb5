//! Time limits of jobs, steps and `relay wait`.

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

#[test]
fn a_job_over_its_limit_fails_with_the_reason_and_run_returns_124() {
    let site = Site::new(Engine::Local);
    let output = site.run(&["run", "--timeout", "1s", "-w", "workspace-projects/demo", "--", "sleep 1000"]);
    assert_eq!(output.status.code(), Some(124));
    let record = site.record("demo");
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::JobTimeout)));
    assert!(record.error.unwrap().message.contains("1s"));
    assert_eq!(site.workspace_processes(), []);
}

#[test]
fn a_setup_over_its_limit_fails_the_job_and_names_its_step() {
    let site = Site::new(Engine::Local);
    let record =
        site.ended(&site.launch_shell("true", &["--setup", "sleep 1000", "--step-timeout", "setup=1s"]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::StepTimeout)));
    let error = record.error.unwrap();
    assert_eq!(error.step, Some(1));
    assert!(error.message.contains("sleep 1000"), "{}", error.message);
}

#[test]
fn a_wait_that_times_out_says_that_the_job_goes_on() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("sleep 1000", &[]);
    let stderr = site.refused(8, &["wait", "--timeout", "200ms", &job]);
    assert!(stderr.contains(&job), "{stderr}");
    site.record_when(&job, "still runs", |record| record.state == State::Running);
    site.relay(&["cancel", "--grace", "1s", &job]);
}
