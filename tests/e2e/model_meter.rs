//! The gateway's meter: tokens and problems of the account are in the record while the job runs.

use std::fs;

use common::event::{FailureKind, Usage};
use common::record::{JobRecord, State};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, processes};
use relay_tests::scripted_model::script::{Fault, Script};
use serde_json::json;

use crate::codex::launch;
use crate::model_gateway::{site, up};

/// Tokens of so many answers of the scripted model.
fn tokens(answers: u64) -> Usage {
    Usage {
        input_tokens: 100 * answers,
        cached_input_tokens: 10 * answers,
        output_tokens: 20 * answers,
        reasoning_output_tokens: 5 * answers,
    }
}

fn answers(record: &JobRecord) -> u64 {
    record.model_usage.map_or(0, |total| total.answers)
}

#[test]
#[ignore = "needs the real Codex"]
fn tokens_are_counted_as_they_pass_and_a_restart_of_the_relay_loses_none() {
    let wait = "until [ -e go ]; do sleep 0.05; done";
    let script = Script::new("waits").run(wait).run("true").say("Done.");
    let (model, site) = site(Engine::Local, [script]);
    up(&site);
    let job = launch(&site, "[script:waits] Wait.");
    let running = site.record_when(&job, "the first answer is counted", |record| answers(record) == 1);
    assert_eq!((running.state, running.usage), (State::Running, Some(tokens(1))));
    let status: serde_json::Value = serde_json::from_str(&site.relay(&["status", &job, "--json"])).unwrap();
    assert_eq!(
        (&status["usage"]["input_tokens"], &status["model_usage"]["answers"]),
        (&json!(100), &json!(1))
    );
    processes::kill(site.daemon_pid());
    up(&site);
    fs::write(site.root().join("workspace-projects/demo/go"), "").unwrap();
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}\n{}", site.log(&job), site.daemon_log());
    let asked = u64::try_from(model.requests().len()).unwrap();
    assert_eq!((answers(&record), record.usage), (asked, Some(tokens(asked))));

    // Codex reports the tokens of the whole thread; those of the next job are its own.
    let next = site.relay(&["resume", "-q", &job, "[script:waits] Go on."]);
    let next = site.ended(next.trim());
    let own = u64::try_from(model.requests().len()).unwrap() - asked;
    assert_eq!((answers(&next), next.usage), (own, Some(tokens(own))), "{}", site.log("demo#2"));
    let status = site.relay(&["status", "demo#2"]);
    assert!(!status.contains("of the whole thread"), "{status}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_usage_limit_is_the_job_s_failure_with_the_instant_of_its_end() {
    let resets_at = jiff::Timestamp::now().as_second() + 3600;
    let error = json!({"type": "usage_limit_reached", "message": "Used up.", "resets_at": resets_at});
    let limit = Fault::HttpError { status: 429, body: json!({ "error": error }) };
    let (_model, site) = site(Engine::Local, [Script::new("limited").fault(limit)]);
    up(&site);
    let target = ["launch", "-q", "--share", "-w", "workspace-projects/demo"];
    let job = site.relay(&[&target[..], &["--on-quota", "fail", "[script:limited] Work."]].concat());
    let job = job.trim().to_owned();
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::UsageLimit)), "{}", site.log(&job));
    let instant = jiff::Timestamp::from_second(resets_at).unwrap();
    let message = record.error.unwrap().message;
    assert!(message.ends_with(&format!("(until {instant})")), "{message}");
    let problem = record.model_problem.unwrap();
    assert_eq!((problem.kind, problem.resets_at), (FailureKind::UsageLimit, Some(instant)));
    assert!(site.relay(&["events", &job]).contains("model_problem"), "{}", site.relay(&["events", &job]));
}

#[test]
#[ignore = "needs the real Codex"]
fn a_job_that_has_used_up_its_budget_ends_with_what_it_used() {
    let script = Script::new("works").run("true").run("true").run("true").say("Done.");
    let (model, site) = site(Engine::Local, [script]);
    let budget = ["--max-tokens", "200", "--max-cost", "1"];
    let target = ["launch", "-q", "--share", "-w", "workspace-projects/demo", "[script:works] Work."];
    let unpriced = site.refused(2, &[&target[..], &budget].concat());
    assert!(unpriced.contains("no price is known for the model gpt-5.5"), "{unpriced}");
    let path = site.root().join("platform/relay.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{settings}\n[prices]\n\"gpt-5.5\" = {{ input = 1.0, output = 10.0 }}\n"))
        .unwrap();
    up(&site);
    let job = site.relay(&[&target[..], &budget].concat()).trim().to_owned();
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::BudgetExceeded)), "{}", site.log(&job));
    // Each answer has 120 tokens: the second one warns, and the third request is refused.
    let message = record.error.unwrap().message;
    assert_eq!(message, "the job's budget for the model is used up: 240 of 200 tokens");
    assert_eq!((model.requests().len(), record.usage), (2, Some(tokens(2))));
    let warnings = &record.warnings.newest;
    assert!(warnings.iter().any(|warning| warning.contains("240 of 200 tokens")), "{warnings:?}");
}

#[test]
fn a_budget_without_the_gateway_is_refused_at_the_launch() {
    let site = relay_tests::harness::Site::new(Engine::Local);
    let refused = site.refused(2, &["launch", "-w", "workspace-projects/demo", "--max-cost", "1", "Work."]);
    assert!(refused.contains("[model] gateway = true"), "{refused}");
}
