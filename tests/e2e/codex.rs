//! Jobs of the real Codex with engine `local`, against a scripted model.

use std::process::Command;

use common::event::FailureKind;
use common::job::StepKind;
use common::record::State;
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until};

/// Creates a site whose workers are the real Codex, and a scripted model server on `address` for them.
pub(crate) fn site(engine: Engine, address: &str) -> (Model, Site) {
    let site = Site::new(engine);
    let model = Model::start(env!("CARGO_BIN_EXE_scripted-model"), address);
    model.write_codex_home(site.codex_home());
    if engine == Engine::Local {
        // The tests may run where no sandbox can be created; the sandbox belongs to Codex and is not under test here.
        let codex = programs::codex();
        site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", codex.display()));
    }
    (model, site)
}

/// Creates a small npm package in a bare repository in the workspace, the only folder that a job's container sees.
pub(crate) fn create_sample_repository(site: &Site) {
    let script = programs::workspace().join("docker/sample.sh");
    let made = Command::new(script).arg(site.workspace()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

pub(crate) fn launch(site: &Site, prompt: &str) -> String {
    site.relay(&["launch", "-q", "--share", "-w", "workspace-projects/demo", prompt]).trim().to_owned()
}

#[test]
#[ignore = "needs the real Codex"]
fn a_whole_task_is_recorded_step_by_step() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    create_sample_repository(&site);
    check_whole_task(&site);
}

/// Runs a whole task (clone, install, test, change, commit), and checks it while it runs and afterwards.
pub(crate) fn check_whole_task(site: &Site) {
    let job = launch(site, "[script:work] Clone the sample, install it, test it, change it, commit.");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    let kinds: Vec<StepKind> = record.steps.iter().map(|step| step.kind).collect();
    for kind in [StepKind::Start, StepKind::Clone, StepKind::Install, StepKind::Test] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}\n{}", site.log(&job));
    }
    assert!(record.steps.iter().all(|step| step.elapsed_ms.is_some()));
    assert!(site.log(&job).contains("\n    cloned"), "{}", site.log(&job));
    assert!(record.message.unwrap().contains("Good morning"));
    assert_eq!(record.changes, None, "the workspace itself is not a repository");
    assert_eq!(record.usage.map(|usage| usage.output_tokens > 0), Some(true));
    assert!(record.thread_id.is_some());
    let log = site.log(&job);
    assert!(log.contains("Greet with good morning"), "{log}");
}

#[test]
#[ignore = "needs the real Codex"]
fn the_running_step_is_shown_while_it_runs() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    create_sample_repository(&site);
    check_current_step_is_shown(&site);
}

/// Checks that the current step is `clone` while the clone runs, then `install`, each with its title and limit.
pub(crate) fn check_current_step_is_shown(site: &Site) {
    let job = launch(site, "[script:steps] Go step by step.");
    let during = |kind: StepKind| {
        let record = site.record_when(&job, kind.as_str(), |record| {
            record.step.as_ref().is_some_and(|step| step.kind == kind)
        });
        let status = site.relay(&["status", &job]);
        assert!(status.contains(kind.as_str()), "{status}");
        assert!(status.lines().count() <= 30, "{status}");
        record.step.unwrap()
    };
    let clone = during(StepKind::Clone);
    assert!(clone.title.contains("git clone") && !clone.title.contains("bash"), "{}", clone.title);
    assert_eq!(clone.limit_ms, Some(300_000));
    site.write("workspace-projects/demo/go-clone", "");
    let install = during(StepKind::Install);
    assert!(install.title.contains("npm install"), "{}", install.title);
    site.write("workspace-projects/demo/go-install", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    let edits = record.steps.iter().filter(|step| step.kind == StepKind::Edit).count();
    assert_eq!((edits, record.message.as_deref()), (1, Some("Steps are done.")));
    assert!(site.workspace().join("note.txt").exists());
}

#[test]
#[ignore = "needs the real Codex"]
fn a_cancel_ends_a_worker_and_processes_that_moved_to_other_sessions() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let job = launch(&site, "[script:sleep] Sleep.");
    until("the command runs", || site.workspace().join("escaped").exists().then_some(()));
    site.relay(&["cancel", "--grace", "3s", &job]);
    let record = site.record(&job);
    assert_eq!(outcome(&record), (State::Cancelled, None));
    assert_eq!(record.cleanup.map(|cleanup| cleanup.survivors), Some(0));
    assert_eq!(site.workspace_processes(), []);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_model_that_never_answers_ends_the_job_within_its_limit() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let job = site.relay(&[
        "launch",
        "-q",
        "-w",
        "workspace-projects/demo",
        "--step-timeout",
        "model=2s",
        "[script:hang] Hang.",
    ]);
    let record = site.ended(job.trim());
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ModelSilent)));
}

#[test]
#[ignore = "needs the real Codex"]
fn a_failed_turn_has_the_error_of_codex_in_its_message() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let job = launch(&site, "[script:bad-key] Try.");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Auth)));
    assert!(record.error.unwrap().message.contains("401"));
    let explained = site.relay(&["explain", &job]);
    assert!(explained.contains("codex login") && explained.contains("relay resume"), "{explained}");
    assert_eq!(record.exit_code, Some(1));
}

#[test]
#[ignore = "needs the real Codex"]
fn the_model_s_key_reaches_codex_and_not_the_commands_of_the_model() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    let up = site.command(&["up"]).env("OPENAI_API_KEY", "sk-canary-1234").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let job = launch(&site, "[script:environment] Show.");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None));
    let log = site.log(&job);
    assert!(log.contains("HOME=") && !log.contains("canary"), "{log}");
}

#[test]
#[ignore = "needs the real Codex"]
fn threads_and_logs_of_several_codex_workers_at_once_are_separate() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    check_three_jobs_at_once(&site);
}

/// Runs three workers at once, and checks that `wait` waits for all of them and that threads and logs are separate.
pub(crate) fn check_three_jobs_at_once(site: &Site) {
    let jobs: Vec<String> = (0..3).map(|_| launch(site, "[script:quick] Be quick.")).collect();
    let failing = site.launch_shell("exit 1", &["-n", "failing"]);
    let all: Vec<&str> = jobs.iter().map(String::as_str).collect();
    assert_eq!(site.run(&[&["wait"], &all[..]].concat()).status.code(), Some(0));
    assert_eq!(site.run(&[&["wait", &failing], &all[..]].concat()).status.code(), Some(1));
    let threads: std::collections::BTreeSet<_> =
        jobs.iter().filter_map(|job| site.record(job).thread_id).collect();
    assert_eq!(threads.len(), 3);
    for job in &jobs {
        assert!(site.log(job).contains("That was quick."));
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worker_without_credentials_is_refused_before_anything_is_written() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    std::fs::remove_file(site.codex_home().join("config.toml")).unwrap();
    site.relay(&["up"]);
    let stderr = site.refused(5, &["launch", "-w", "workspace-projects/demo", "do something"]);
    assert!(stderr.contains("CODEX_API_KEY") && stderr.lines().count() == 1, "{stderr}");
    assert!(!site.registry().join("demo.1.json").exists());
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worker_in_codex_s_sandbox_installs_and_commits_and_writes_nothing_outside() {
    let (_model, site) = site(Engine::Local, "127.0.0.1");
    site.configure(&format!("[codex]\nprogram = \"{}\"\n", programs::codex().display()));
    create_sample_repository(&site);
    let git =
        |args: &[&str]| Command::new("git").arg("-C").arg(site.workspace()).args(args).output().unwrap();
    assert!(git(&["init", "-q", "-b", "main"]).status.success());
    let job = launch(&site, "[script:sandbox] Install, commit, look outside.");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}");
    let head = String::from_utf8_lossy(&git(&["log", "--oneline"]).stdout).into_owned();
    assert!(head.contains("From inside of the sandbox"), "{head}\n{log}");
    assert!(site.workspace().join("node_modules/names").exists(), "{log}");
    assert!(!site.root().join("outside").exists(), "{log}");
    assert_eq!(record.changes.map(|changes| changes.files > 0), Some(true));
}
