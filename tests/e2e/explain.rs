//! Explanations of why a job took so long or failed.

use common::event::FailureKind;
use common::job::StepKind;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until};

use super::{codex, recovery};

#[test]
fn a_failed_check_is_explained_with_its_output_for_people_and_programs() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &["--check", "echo the reason; exit 3"]);
    site.ended(&job);
    let text = site.relay(&["explain", &job]);
    assert!(text.contains("check_failed") && text.contains("| the reason"), "{text}");
    assert!(text.contains("relay run") && text.lines().count() <= 30, "{text}");
    let facts: serde_json::Value = serde_json::from_str(&site.relay(&["explain", "--json"])).unwrap();
    assert_eq!(
        (&facts["cause"]["kind"], &facts["cause"]["output"][0]),
        (&"check_failed".into(), &"the reason".into())
    );
    let shares = facts["time"].as_array().unwrap().iter().map(|share| share["ms"].as_u64().unwrap());
    assert_eq!(Some(shares.sum()), facts["total_ms"].as_u64());
    let summary = site.record(&job).summary.unwrap();
    assert!(summary.contains("      | the reason"), "{summary}");
}

#[test]
fn a_running_and_a_queued_job_can_be_explained() {
    let site = Site::new(Engine::Local);
    site.configure("max_jobs = 1\n[codex]\nsandbox = \"off\"\n");
    let first = site.launch_shell("sleep 1000", &[]);
    site.record_when(&first, "has a step", |record| record.step.is_some());
    let second = site.launch_shell("true", &[]);
    assert!(site.relay(&["explain", &first]).contains("sleep 1000"));
    assert!(site.relay(&["explain", &second]).contains("queued"));
    site.relay(&["cancel", "--grace", "1s", &second, &first]);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_job_whose_relay_and_agent_were_killed_is_explained_with_a_working_command() {
    let (_model, site) = codex::site(Engine::Local, "127.0.0.1");
    let job = codex::launch(&site, "[script:sleep] Sleep.");
    let sleeps = |kind| kind == StepKind::Command;
    site.record_when(&job, "sleeps in a thread", |record| {
        record.thread_id.is_some() && record.steps.iter().any(|step| sleeps(step.kind))
    });
    assert!(!site.workspace_processes().is_empty());
    processes::kill(site.daemon_pid());
    processes::kill(recovery::agent_pid(&site));
    until("the worker went with its agent", || site.workspace_processes().is_empty().then_some(()));
    site.relay(&["up"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::AgentLost)));
    assert!(record.steps.iter().all(|step| step.outcome.is_some()), "{:#?}", record.steps);
    let explained = site.relay(&["explain", &job]);
    assert!(explained.contains("relay resume demo#1"), "{explained}");
    let resumed = site.relay(&["resume", "-q", &job, "[script:quick] Go on."]);
    assert_eq!(outcome(&site.ended(resumed.trim())), (State::Completed, None));
}
