//! Stalls: tools that hang on a server which never answers are ended, and work without output is not.
//!
//! The hanging tools are real ones, run by the real Codex. The bound on the detection time is generous, because the
//! machine of the tests may be busy.

use std::path::Path;
use std::time::{Duration, Instant};

use common::event::{EventBody, FailureKind, StepOutcome};
use common::job::StepKind;
use common::record::{JobRecord, State};
use jiff::Timestamp;
use relay_tests::harness::black_hole::{Behaviour, BlackHole};
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until, until_by};

/// Maximum delay of the detection, in milliseconds: the machine may be busy. Without a stall limit the tools would wait
/// for minutes.
const MAX_DELAY_MS: i128 = 50_000;

/// Creates a site whose workers, the real Codex, run one command.
fn site_with_command(command: &str) -> (Model, Site) {
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

fn launch(site: &Site, flags: &[&str]) -> JobRecord {
    let mut args = vec!["launch", "-q", "-w", "workspace-projects/demo"];
    args.extend_from_slice(flags);
    args.push("[script:it] Do it.");
    let job = site.relay(&args).trim().to_owned();
    site.ended(&job)
}

/// Returns the time of the event `stopping` in the log of demo#1.
fn stop_time(site: &Site) -> Timestamp {
    let events = site.events("demo#1").into_iter().filter_map(|line| line.event);
    let mut stopping = events.filter(|event| matches!(event.body, EventBody::Stopping { .. }));
    stopping.next().unwrap().at
}

/// Checks that a job ended because of a stalled step of this kind, in time and without leaving processes.
fn check_stalled(site: &Site, hole: &BlackHole, record: &JobRecord, kind: StepKind, tool: &str) {
    let log = site.log("demo");
    assert_eq!(outcome(record), (State::Failed, Some(FailureKind::Stalled)), "{log}");
    let error = record.error.clone().unwrap();
    assert!(error.message.contains(tool) && error.message.contains(&hole.address()), "{}", error.message);
    let step = record.steps.iter().find(|step| Some(step.n) == error.step).unwrap();
    assert_eq!((step.kind, step.outcome), (kind, Some(StepOutcome::Killed)), "{record:?}");
    assert_eq!(record.cleanup.map(|cleanup| cleanup.survivors), Some(0));
    assert_eq!(site.workspace_processes(), []);
    let last = Timestamp::try_from(hole.last_activity().unwrap()).unwrap();
    let after = stop_time(site).duration_since(last).as_millis();
    figure(&format!(
        "stalled {tool}: found {after} ms after its last byte, window 10000 ms: {}",
        error.message
    ));
    // The server may notice the last byte late.
    assert!((7_000..10_000 + MAX_DELAY_MS).contains(&after), "{after}");
}

/// Runs a command with a stall limit of 10 s, and checks that it ends as stalled. `HOLE` in the command and the files
/// stands for the address of a server that never answers.
fn check_hang_is_stalled(command: &str, files: &[(&str, &str)], kind: StepKind, tool: &str) {
    let hole = BlackHole::start(Behaviour::Silent);
    let fill = |text: &str| text.replace("HOLE", &hole.address());
    let (_model, site) = site_with_command(&fill(command));
    for (path, text) in files {
        site.write(&format!("workspace-projects/demo/{path}"), &fill(text));
    }
    let record = launch(&site, &["--stall", "10s"]);
    check_stalled(&site, &hole, &record, kind, tool);
}

#[test]
#[ignore = "needs the real Codex"]
fn npm_install_on_a_registry_that_never_answers_is_stalled() {
    check_hang_is_stalled(
        "npm install left-pad --registry http://HOLE/",
        &[],
        StepKind::Install,
        "npm install",
    );
}

#[test]
#[ignore = "needs the real Codex"]
fn npm_install_hidden_in_a_makefile_is_stalled() {
    let files = [
        ("Makefile", "setup:\n\t@sh ./setup.sh\n"),
        ("setup.sh", "npm install left-pad --registry http://HOLE/\n"),
    ];
    check_hang_is_stalled("make setup", &files, StepKind::Install, "npm install");
}

#[test]
#[ignore = "needs the real Codex"]
fn pip_install_from_an_index_that_never_answers_is_stalled() {
    check_hang_is_stalled(
        "PIP_BREAK_SYSTEM_PACKAGES=1 pip install --no-cache-dir --disable-pip-version-check --timeout 600 --index-url http://HOLE/simple x",
        &[],
        StepKind::Install,
        "pip",
    );
}

#[test]
#[ignore = "needs the real Codex"]
fn git_clone_from_a_host_that_never_answers_is_stalled() {
    check_hang_is_stalled("git clone http://HOLE/x.git", &[], StepKind::Clone, "git");
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
    // This is the real cargo, not the proxy of rustup, which needs the user's HOME.
    check_hang_is_stalled(concat!(env!("CARGO"), " fetch"), &files, StepKind::Install, "cargo");
}

#[test]
#[ignore = "needs the real Codex"]
fn curl_of_a_server_that_never_answers_is_stalled() {
    check_hang_is_stalled("curl -s http://HOLE/file -o file", &[], StepKind::Fetch, "curl");
}

#[test]
#[ignore = "needs the real Codex"]
fn an_interrupted_install_lets_codex_go_on() {
    let hole = BlackHole::start(Behaviour::Silent);
    let (_model, site) =
        site_with_command(&format!("npm install left-pad --registry http://{}/", hole.address()));
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
    assert_eq!(site.workspace_processes(), []);
}

#[test]
#[ignore = "needs the real Codex"]
fn an_install_that_receives_bytes_for_ever_is_ended_at_its_limit() {
    let hole = BlackHole::start(Behaviour::Drip(Duration::from_millis(20)));
    let (_model, site) = site_with_command(&format!("npm install http://{}/x.tgz", hole.address()));
    let record = launch(&site, &["--step-timeout", "install=5s"]);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::StepTimeout)), "{}", site.log("demo"));
    let stopping = stop_time(&site);
    let step = record.steps.iter().find(|step| step.kind == StepKind::Install).unwrap();
    let after = stopping.duration_since(step.started_at).as_millis();
    figure(&format!("step_timeout of 5 s fired after {after} ms"));
    // The time of an event is that of its writing, which on a busy machine is later than the start of the limit.
    assert!((4_500..5_000 + MAX_DELAY_MS).contains(&after), "{after}");
    let gone = record.finished_at.unwrap().duration_since(stopping).as_millis();
    figure(&format!("last process gone {gone} ms after the limit, grace 5000 ms"));
    assert!(gone < 5_000 + MAX_DELAY_MS, "{gone}");
    assert_eq!(site.workspace_processes(), []);
}

#[test]
fn a_step_that_receives_a_byte_now_and_then_is_not_stalled() {
    let site = Site::new(Engine::Local);
    let hole = BlackHole::start(Behaviour::Drip(Duration::from_millis(500)));
    let line = format!("curl -s -m 8 http://{}/file -o file", hole.address());
    let job = site.launch_shell(&line, &["--stall", "3s"]);
    let record = site.ended(&job);
    // With 28 curl says that its own time limit has passed, so relay has not ended the job before.
    assert_eq!(record.exit_code, Some(28), "{record:?}");
    assert_eq!(record.warning, None);
}

/// Returns the evidence of each reported stall of a job.
fn stalls(site: &Site, job: &str) -> Vec<String> {
    let events = site.events(job).into_iter().filter_map(|line| line.event);
    let evidence = events.filter_map(|event| match event.body {
        EventBody::Stalled { evidence, .. } => Some(evidence),
        _ => None,
    });
    evidence.collect()
}

#[test]
fn a_stalled_step_of_another_kind_than_the_network_ones_is_only_reported() {
    let site = Site::new(Engine::Local);
    // The step waits for the other end of a pipe.
    site.write("workspace-projects/demo/Makefile", "test:\n\tmkfifo gate\n\tcat gate\n");
    let job = site.launch_shell("make test", &["--stall", "2s"]);
    until("the stall is reported", || (!stalls(&site, &job).is_empty()).then_some(()));
    // The stall goes on for longer than its limit and is not reported again.
    let reported = Instant::now();
    until("the stall has gone on", || (reported.elapsed() > Duration::from_secs(3)).then_some(()));
    site.write("workspace-projects/demo/gate", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None));
    let stalls = stalls(&site, &job);
    assert_eq!(stalls.len(), 1, "{stalls:?}");
    assert!(stalls[0].contains("cat (pid") && stalls[0].contains(" % CPU"), "{stalls:?}");
}

#[test]
fn a_step_that_uses_cpu_time_is_not_stalled() {
    let site = Site::new(Engine::Local);
    // Five seconds of CPU time, however long they take.
    let line = "python3 -c 'import time\nwhile time.process_time() < 5: pass'";
    let record = site.ended(&site.launch_shell(line, &["--stall", "3s", "--stall", "command=3s"]));
    assert_eq!((outcome(&record), record.warning), ((State::Completed, None), None));
    let step = &record.steps[0];
    assert!(step.resources.is_some_and(|used| used.cpu_ms > 1000), "{step:?}");
}

#[test]
fn a_stalled_step_of_a_kind_with_its_own_stall_limit_fails_the_job() {
    let site = Site::new(Engine::Local);
    let record = site.ended(&site.launch_shell("sleep 1000", &["--stall", "command=2s"]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Stalled)));
    assert!(record.error.unwrap().message.contains("sleep"));
}

/// Runs a build and tests: five minutes in nightly runs, less time and a shorter stall limit in normal ones.
#[test]
fn a_long_build_and_its_tests_are_not_ended() {
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
    let flags: &[&str] = times(&["--stall", "4s"], &[]);
    let job = site.launch_shell(&line, flags);
    let deadline = Instant::now() + Duration::from_secs(seconds * 2 + 200);
    until_by(deadline, "the tests are done", || site.record(&job).state.is_final().then_some(()));
    let record = site.record(&job);
    assert_eq!((outcome(&record), record.warning), ((State::Completed, None), None), "{}", site.log(&job));
    let test = record.steps.iter().find(|step| step.kind == StepKind::Test).unwrap();
    let cpu_ms = test.resources.unwrap().cpu_ms;
    figure(&format!(
        "honest work: a build and {seconds} s of tests, {cpu_ms} ms of CPU seen, 0 warnings, 0 kills"
    ));
    // On a busy machine the tests get only a part of a core.
    assert!(cpu_ms > seconds * 1000 / 20, "{cpu_ms} ms of CPU in {seconds} s");
}
