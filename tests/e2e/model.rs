//! Jobs of the real Codex whose model is silent, slow or fails: each ends in time, with a clear message.

use common::event::{Event, EventBody, FailureKind};
use common::job::StepKind;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

use crate::codex::{launch, site};

/// Setting of Codex with an address at which no server listens.
const REFUSED_ADDRESS: &str = r#"model_providers.scripted.base_url="http://127.0.0.1:9/v1""#;
/// Setting of Codex with more retries than a test waits for.
const MANY_RETRIES: &str = "model_providers.scripted.stream_max_retries=100";
/// Setting of Codex with a key from a variable that is not set.
const NO_KEY: &str = r#"model_providers.scripted.env_key="NO_SUCH_KEY""#;

/// Launches a job with a limit on the model's silence and with settings of Codex.
fn launch_limited(site: &Site, name: &str, script: &str, limit: &str, settings: &[&str]) -> String {
    let limit = format!("model={limit}");
    let prompt = format!("[script:{script}] Go.");
    let mut args = vec!["launch", "-q", "--share", "-w", "workspace-projects/demo", "-n", name];
    args.extend(["--step-timeout", &limit, "--on-quota", "fail", &prompt, "--"]);
    args.extend(settings.iter().flat_map(|setting| ["-c", setting]));
    site.relay(&args).trim().to_owned()
}

/// Returns the events of a job with their times, in milliseconds since the last wait for the model began.
fn events_since_last_wait(site: &Site, job: &str) -> Vec<(i128, EventBody)> {
    let events: Vec<Event> = site.events(job).into_iter().filter_map(|line| line.event).collect();
    let begins = |event: &&Event| matches!(event.body, EventBody::StepStarted { kind: StepKind::Model, .. });
    let begun = events.iter().rev().find(begins).unwrap().at;
    events.into_iter().map(|event| (event.at.duration_since(begun).as_millis(), event.body)).collect()
}

/// Returns the time of the first wanted event, in milliseconds since the last wait for the model began.
fn time_after_wait_ms(events: &[(i128, EventBody)], is_wanted: impl Fn(&EventBody) -> bool) -> i128 {
    events.iter().find(|(_, event)| is_wanted(event)).unwrap().0
}

fn warnings(events: &[(i128, EventBody)]) -> Vec<&str> {
    let messages = events.iter().filter_map(|(_, event)| match event {
        EventBody::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    messages.collect()
}

#[test]
#[ignore = "needs the real Codex"]
fn a_silent_model_ends_the_job_at_its_limit_and_the_message_says_what_is_known() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let cases: [(&str, &[&str], &str); 4] = [
        ("hang", &[], "the server seems to have accepted the request and never answered"),
        ("quick", &[REFUSED_ADDRESS], "codex waits for the network (Connection failed: "),
        ("busy", &[MANY_RETRIES], "/100: 503 Service Unavailable: mock error, url: http://127.0.0.1:"),
        ("breaks-off", &[], "it began to answer and then stopped"),
    ];
    // All jobs run at the same time.
    let jobs: Vec<String> = cases
        .iter()
        .map(|(script, settings, _)| {
            launch_limited(&site, &format!("silent-{script}"), script, "10s", settings)
        })
        .collect();
    for (job, (_, _, known)) in jobs.iter().zip(cases) {
        let record = site.ended(job);
        let log = site.log(job);
        assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ModelSilent)), "{log}");
        let events = events_since_last_wait(&site, job);
        let waited = time_after_wait_ms(&events, |event| matches!(event, EventBody::Stopping { .. }));
        let gone = time_after_wait_ms(&events, |event| matches!(event, EventBody::Cleanup { .. }));
        let cleanup = record.cleanup;
        let message = record.error.unwrap().message;
        println!("{job}: given up after {waited} ms, gone after {gone} ms: {message}");
        assert!(message.starts_with("the model was silent for 10s: "), "{message}");
        assert!(message.contains(known) && message.lines().count() == 1, "{message}");
        // The time of an event is that of its writing, which on a busy machine is later than the start of the limit.
        // Codex itself would wait for minutes.
        assert!((9_500..60_000).contains(&waited), "{waited} ms: {message}");
        assert_eq!(cleanup.map(|cleanup| cleanup.survivors), Some(0));
        let warnings = warnings(&events);
        assert!(warnings.len() <= 3, "{warnings:#?}");
    }
    assert_eq!(site.workspace_processes(), []);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_model_that_thinks_or_writes_for_long_does_not_end_the_job() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    // This model sends nothing for 20 s, with a limit of 30 s of silence.
    let thinks = launch_limited(&site, "thinks", "thinks", "30s", &[]);
    // This model writes for 15 s, a piece every 0.5 s, with a limit of 8 s of silence.
    let writes = launch_limited(&site, "writes", "writes", "8s", &[]);
    for (job, expected, min_ms) in [(&writes, "Written.", 14_000), (&thinks, "Thought.", 20_000)] {
        let record = site.ended(job);
        let log = site.log(job);
        assert_eq!(outcome(&record), (State::Completed, None), "{log}");
        assert_eq!(record.message.as_deref(), Some(expected));
        let waits = events_since_last_wait(&site, job).into_iter().filter_map(|(_, event)| match event {
            EventBody::StepFinished { elapsed_ms, .. } => Some(elapsed_ms),
            _ => None,
        });
        let longest = waits.max().unwrap();
        println!("{job}: completed after a wait of {longest} ms");
        assert!(longest >= min_ms, "{longest} ms");
        assert!(!log.contains("TRACE") && !log.contains("piece 1"), "{log}");
    }
    assert_eq!(warnings(&events_since_last_wait(&site, &writes)), Vec::<&str>::new());
}

/// Failures of the model: script, settings of Codex, and expected kind and beginning of the message.
const FAILURES: [(&str, &[&str], FailureKind, &str); 11] = [
    (
        "bad-key",
        &[],
        FailureKind::Auth,
        "the model's server refused the key: check CODEX_API_KEY, or log in again with codex login (codex: unexpected status 401",
    ),
    (
        "forbidden",
        &[],
        FailureKind::Auth,
        "the model's server forbids this: check that the account may use the model from this location (codex: unexpected status 403",
    ),
    (
        "rate-limit",
        &[],
        FailureKind::RateLimited,
        "the model's server accepts no more requests for now: try again later, or run fewer workers at once (codex: exceeded retry",
    ),
    (
        "usage-limit",
        &[],
        FailureKind::UsageLimit,
        "the usage limit of the account is reached: try again at 2100-01-01 ",
    ),
    (
        "bad-request",
        &[],
        FailureKind::CodexError,
        "the model's server refused the request as it stands (codex: the request is bad)",
    ),
    (
        "server-error",
        &[],
        FailureKind::Overloaded,
        "the model's server reported an internal error: try again later (codex: We’re currently experiencing high demand",
    ),
    (
        "busy",
        &[],
        FailureKind::Overloaded,
        "the model's server reported an internal error: try again later (codex: unexpected status 503",
    ),
    (
        "quota",
        &[],
        FailureKind::UsageLimit,
        "the account's quota is used up: check its plan and billing (codex: Quota exceeded.",
    ),
    (
        "context",
        &[],
        FailureKind::ContextWindow,
        "the task no longer fits into the model's context window: split it",
    ),
    (
        "disconnect",
        &[],
        FailureKind::CodexError,
        "the model's server interrupted its answer: try again (codex: stream disconnected before completion",
    ),
    (
        "quick",
        &[NO_KEY],
        FailureKind::Auth,
        "the model's key is not set: give NO_SUCH_KEY to the worker with --env NO_SUCH_KEY",
    ),
];

#[test]
#[ignore = "needs the real Codex"]
fn each_failure_of_the_model_has_its_own_kind_and_a_message_with_advice() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let jobs: Vec<String> = FAILURES
        .iter()
        .map(|(script, settings, _, _)| {
            launch_limited(&site, &format!("fails-{script}"), script, "100s", settings)
        })
        .collect();
    for (job, (_, _, kind, sentence)) in jobs.iter().zip(FAILURES) {
        let record = site.ended(job);
        assert_eq!(outcome(&record), (State::Failed, Some(kind)), "{}", site.log(job));
        let waited = time_after_wait_ms(&events_since_last_wait(&site, job), |event| {
            matches!(event, EventBody::Finished { .. })
        });
        let exit_code = record.exit_code;
        let message = record.error.unwrap().message;
        println!("{job}: failed after {waited} ms: {message}");
        assert!(message.starts_with(sentence) && message.lines().count() == 1, "{message}");
        assert_eq!(exit_code, Some(1));
        assert!(waited < 100_000, "{waited} ms: {message}");
    }
    assert_eq!(site.workspace_processes(), []);
}

#[test]
#[ignore = "needs the real Codex"]
fn codex_gets_a_trace_setting_that_commands_of_the_model_do_not_see() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let job = launch(&site, "[script:bad-patch] Try.");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}");
    assert!(log.contains("HOME=") && !log.contains("RUST_LOG") && !log.contains("TRACE"), "{log}");
    // The messages that Codex itself writes to stderr are still there.
    assert!(log.contains("ERROR codex_core::tools::router"), "{log}");
}

#[test]
#[ignore = "needs the real Codex"]
fn commands_that_codex_refuses_to_start_are_warnings_with_the_reason() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let job = launch(&site, "[script:refused] Remove the files.");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    let mut events = site.events(&job).into_iter().filter_map(|line| line.event);
    let mut warning = || {
        events.find_map(|event| match event.body {
            EventBody::Warning { message } => Some(message),
            _ => None,
        })
    };
    let first = warning().unwrap();
    assert!(
        first.starts_with("Codex did not start a command of the model: ") && first.contains("rm -f one"),
        "{first}"
    );
    assert!(warning().unwrap().contains("1 more command"));
    assert!(site.relay(&["status", &job]).contains("completed with 2 warnings"));
}
