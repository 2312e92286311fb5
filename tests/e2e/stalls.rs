//! Tools that hang on a server which accepts and never answers, and work that is merely quiet.
//!
//! Hangs are those of the real tools under the real Codex. The bound on the detection time is generous, because the
//! machines that run this are shared.

use std::path::Path;
use std::time::{Duration, Instant};

use common::event::{EventBody, FailureKind, StepOutcome};
use common::job::StepKind;
use common::record::{JobRecord, State};
use jiff::Timestamp;
use relay_tests::harness::black_hole::{BlackHole, Manner};
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until_by};

/// Margin after the end of the window, in milliseconds: the tool may still have been active, and the machine may be
/// loaded.
const SOON: i128 = 8_000;

/// Creates a site whose worker, the real Codex, runs this one command.
fn worker(command: &str) -> (Model, Site) {
    let site = Site::new(Engine::Local);
    let command = serde_json::Value::from(command);
    let script = format!(r#"{{"name": "it", "turns": [{{"commands": [{{"cmd": {command}}}]}}]}}"#);
    site.write("scripts/it.json", &script);
    let model =
        Model::with_scripts(env!("CARGO_BIN_EXE_scripted-model"), "127.0.0.1", &site.root().join("scripts"));
    model.write_codex_home(site.codex_home());
    let codex = programs::codex();
    site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", codex.display()));
    (model, site)
}

fn launch(site: &Site, more: &[&str]) -> JobRecord {
    let mut args = vec!["launch", "-q", "-w", "workspace-projects/demo"];
    args.extend_from_slice(more);
    args.push("[script:it] Do it.");
    let job = site.relay(&args).trim().to_owned();
    site.ended(&job)
}

/// Time of the job's `Stopping` event.
fn stopping(site: &Site) -> Timestamp {
    let events = site.events("demo#1").into_iter().filter_map(|line| line.event);
    let mut stopping = events.filter(|event| matches!(event.body, EventBody::Stopping { .. }));
    stopping.next().unwrap().at
}

/// Checks that the job ended as a stall of that kind, that the stall was found soon, and that no process is left.
fn stalled(site: &Site, hole: &BlackHole, record: &JobRecord, kind: StepKind, tool: &str) {
    let log = site.log("demo");
    assert_eq!(outcome(record), (State::Failed, Some(FailureKind::Stalled)), "{log}");
    let error = record.error.clone().unwrap();
    assert!(error.message.contains(tool) && error.message.contains(&hole.address()), "{}", error.message);
    let step = record.steps.iter().find(|step| Some(step.n) == error.step).unwrap();
    assert_eq!((step.kind, step.outcome), (kind, Some(StepOutcome::Killed)), "{record:?}");
    assert_eq!(record.cleanup.map(|cleanup| cleanup.survivors), Some(0));
    assert_eq!(site.workers(), []);
    let last = Timestamp::try_from(hole.heard().unwrap()).unwrap();
    let after = stopping(site).duration_since(last).as_millis();
    figure(&format!(
        "stalled {tool}: found {after} ms after its last byte, window 10000 ms: {}",
        error.message
    ));
    assert!((9_000..10_000 + SOON).contains(&after), "{after}");
}

/// Runs a command that hangs on the black hole under a stall limit of 10 s.
fn hangs(command: &str, files: &[(&str, &str)], kind: StepKind, tool: &str) {
    let hole = BlackHole::start(Manner::Silent);
    let fill = |text: &str| text.replace("HOLE", &hole.address());
    let (_model, site) = worker(&fill(command));
    for (path, text) in files {
        site.write(&format!("workspace-projects/demo/{path}"), &fill(text));
    }
    let record = launch(&site, &["--stall", "10s"]);
    stalled(&site, &hole, &record, kind, tool);
}

#[test]
#[ignore = "needs the real Codex"]
fn npm_install_on_a_registry_that_never_answers_is_stalled() {
    hangs("npm install left-pad --registry http://HOLE/", &[], StepKind::Install, "npm install");
}

#[test]
#[ignore = "needs the real Codex"]
fn npm_install_hidden_in_a_makefile_is_stalled() {
    let files = [
        ("Makefile", "setup:\n\t@sh ./setup.sh\n"),
        ("setup.sh", "npm install left-pad --registry http://HOLE/\n"),
    ];
    hangs("make setup", &files, StepKind::Install, "npm install");
}

#[test]
#[ignore = "needs the real Codex"]
fn pip_install_from_an_index_that_never_answers_is_stalled() {
    hangs(
        "PIP_BREAK_SYSTEM_PACKAGES=1 pip install --no-cache-dir --disable-pip-version-check --timeout 600 --index-url http://HOLE/simple x",
        &[],
        StepKind::Install,
        "pip",
    );
}

#[test]
#[ignore = "needs the real Codex"]
fn git_clone_from_a_host_that_never_answers_is_stalled() {
    hangs("git clone http://HOLE/x.git", &[], StepKind::Clone, "git");
}

#[test]
#[ignore = "needs the real Codex"]
fn cargo_fetch_from_a_host_that_never_answers_is_stalled() {
    let files = [
        (
            "Cargo.toml",
            "[workspace]\n[package]\nname = \"x\"\nedition = \"2021\"\n[dependencies]\ny = { git = \"http://HOLE/y.git\" }\n",
        ),
        ("src/lib.rs", ""),
    ];
    // Not the proxy of rustup, which searches for its toolchains below HOME.
    hangs(concat!(env!("CARGO"), " fetch"), &files, StepKind::Install, "cargo");
}

#[test]
#[ignore = "needs the real Codex"]
fn curl_of_a_server_that_never_answers_is_stalled() {
    hangs("curl -s http://HOLE/file -o file", &[], StepKind::Fetch, "curl");
}

#[test]
#[ignore = "needs the real Codex"]
fn an_interrupted_install_lets_codex_go_on() {
    let hole = BlackHole::start(Manner::Silent);
    let (_model, site) = worker(&format!("npm install left-pad --registry http://{}/", hole.address()));
    let record = launch(&site, &["--stall", "3s", "--on-limit", "interrupt"]);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log("demo"));
    let interrupts: Vec<String> = site
        .events("demo#1")
        .into_iter()
        .filter_map(|line| match line.event?.body {
            EventBody::Interrupted { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(interrupts.len(), 1, "{interrupts:?}");
    assert!(interrupts[0].contains(&hole.address()) && interrupts[0].contains("1 of 3"), "{interrupts:?}");
    let log = site.log("demo");
    assert!(log.contains("exit 143") && log.contains("The script it is over."), "{log}");
    assert_eq!(site.workers(), []);
}

#[test]
#[ignore = "needs the real Codex"]
fn an_install_that_moves_for_ever_runs_into_its_limit() {
    let hole = BlackHole::start(Manner::Drip(Duration::from_millis(20)));
    let (_model, site) = worker(&format!("npm install http://{}/x.tgz", hole.address()));
    let record = launch(&site, &["--step-timeout", "install=5s"]);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::StepTimeout)), "{}", site.log("demo"));
    let stopping = stopping(&site);
    let step = record.steps.iter().find(|step| step.kind == StepKind::Install).unwrap();
    let after = stopping.duration_since(step.started_at).as_millis();
    figure(&format!("step_timeout of 5 s fired after {after} ms"));
    // The step's event is stamped when it is written: on a busy machine that is after the start of its limit.
    assert!((4_500..6_000).contains(&after), "{after}");
    let gone = record.finished_at.unwrap().duration_since(stopping).as_millis();
    figure(&format!("last process gone {gone} ms after the limit, grace 5000 ms"));
    assert!(gone < 6_000, "{gone}");
    assert_eq!(site.workers(), []);
}

#[test]
fn one_byte_now_and_then_is_progress() {
    let site = Site::new(Engine::Local);
    let hole = BlackHole::start(Manner::Drip(Duration::from_millis(900)));
    let line = format!("curl -s -m 8 http://{}/file -o file", hole.address());
    let job = site.launch_shell(&line, &["--stall", "3s"]);
    let record = site.ended(&job);
    // 28 is curl's own limit: the job was not ended before.
    assert_eq!(record.exit_code, Some(28), "{record:?}");
    assert_eq!(record.warning, None);
}

#[test]
fn quiet_work_that_is_no_network_kind_is_told_of_and_lives_on() {
    let site = Site::new(Engine::Local);
    site.write("workspace-projects/demo/Makefile", "test:\n\tsleep 5\n");
    let job = site.launch_shell("make test", &["--stall", "2s"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None));
    let stalls: Vec<String> = site
        .events(&job)
        .into_iter()
        .filter_map(|line| match line.event?.body {
            EventBody::Stalled { evidence, .. } => Some(evidence),
            _ => None,
        })
        .collect();
    assert_eq!(stalls.len(), 1, "{stalls:?}");
    assert!(stalls[0].contains("sleep (pid") && stalls[0].contains("0.0 % CPU"), "{stalls:?}");
}

#[test]
fn work_that_needs_the_processor_is_left_alone() {
    let site = Site::new(Engine::Local);
    let line = "end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do :; done";
    let record = site.ended(&site.launch_shell(line, &["--stall", "2s", "--stall", "command=2s"]));
    assert_eq!((outcome(&record), record.warning), ((State::Completed, None), None));
    let step = &record.steps[0];
    assert!(step.resources.is_some_and(|used| used.cpu_ms > 1000), "{step:?}");
}

#[test]
fn a_kind_with_a_stall_limit_of_its_own_fails_at_it() {
    let site = Site::new(Engine::Local);
    let record = site.ended(&site.launch_shell("sleep 1000", &["--stall", "command=2s"]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Stalled)));
    assert!(record.error.unwrap().message.contains("sleep"));
}

/// Checks that a long build is left alone. The design asks for five minutes under the default limits; the normal run
/// takes less time, with a tighter limit.
#[test]
fn an_honest_build_and_its_tests_are_left_alone() {
    let site = Site::new(Engine::Local);
    let seconds = times(20, 300);
    site.write(
        "workspace-projects/demo/Cargo.toml",
        "[workspace]\n[package]\nname = \"x\"\nedition = \"2021\"\n",
    );
    let code = format!(
        "#[test]\nfn computes() {{\n    let begun = std::time::Instant::now();\n    let mut n = 1_u64;\n    \
         while begun.elapsed().as_secs() < {seconds} {{\n        n = n.wrapping_mul(6364136223846793005).wrapping_add(1);\n    \
         }}\n    assert_ne!(n, 0);\n}}\n"
    );
    site.write("workspace-projects/demo/src/lib.rs", &code);
    let toolchain = Path::new(env!("CARGO")).parent().unwrap().display();
    let line = format!("export PATH={toolchain}:$PATH; cargo build -q && cargo test -q");
    let more: &[&str] = times(&["--stall", "4s"], &[]);
    let job = site.launch_shell(&line, more);
    let deadline = Instant::now() + Duration::from_secs(seconds * 2 + 60);
    until_by(deadline, "the tests are done", || site.record(&job).state.is_final().then_some(()));
    let record = site.record(&job);
    assert_eq!((outcome(&record), record.warning), ((State::Completed, None), None), "{}", site.log(&job));
    let test = record.steps.iter().find(|step| step.kind == StepKind::Test).unwrap();
    let cpu_ms = test.resources.unwrap().cpu_ms;
    figure(&format!(
        "honest work: a build and {seconds} s of tests, {cpu_ms} ms of CPU seen, 0 warnings, 0 kills"
    ));
    assert!(cpu_ms > seconds * 1000 / 4, "{cpu_ms} ms of CPU in {seconds} s");
}
