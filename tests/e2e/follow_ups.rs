//! Follow-up jobs: `relay resume` continues a Codex thread with a new prompt, `relay retry` repeats a task.

use std::fs;
use std::process::Stdio;

use common::event::FailureKind;
use common::origin::{FollowUp, Follows};
use common::record::{JobRecord, State};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until};
use relay_tests::scripted_model::{ScriptedModel, Scripts, write_codex_home};

use crate::codex::launch;

/// Creates a site whose workers are the real Codex, and a scripted model that records the requests.
fn site() -> (ScriptedModel, Site) {
    let site = Site::new(Engine::Local);
    let mut scripts = Scripts::default();
    scripts.add_folder(&programs::workspace().join("tests/scripts")).unwrap();
    let model = ScriptedModel::start_on_thread(scripts).unwrap();
    write_codex_home(site.codex_home(), &model.base_url()).unwrap();
    let codex = programs::codex();
    site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", codex.display()));
    (model, site)
}

/// Returns the input of the last request to the model, as JSON text.
fn last_request(model: &ScriptedModel) -> String {
    model.requests().last().map(|request| request.body["input"].to_string()).unwrap_or_default()
}

/// Resumes a job, waits for the end of the new job, and checks that the new job continued the same thread.
fn resume_to_end(site: &Site, earlier: &JobRecord, prompt: &str) -> JobRecord {
    let job = site.relay(&["resume", "-q", &earlier.job.to_string(), prompt]);
    let record = site.ended(job.trim());
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(job.trim()));
    assert_eq!((&record.thread_id, &record.workspace), (&earlier.thread_id, &earlier.workspace));
    let follows = Follows { job: earlier.job.clone(), how: FollowUp::Resume };
    assert_eq!(record.origin.follows, Some(follows));
    record
}

#[test]
#[ignore = "needs the real Codex"]
fn a_resumed_job_remembers_the_earlier_one_and_the_history_lists_both() {
    let (model, site) = site();
    let first = site.ended(&launch(&site, "[script:quick] Count the apples."));
    assert_eq!(outcome(&first), (State::Completed, None), "{}", site.log("demo#1"));
    let second = resume_to_end(&site, &first, "[script:quick] Now the pears.");
    let request = last_request(&model);
    assert!(request.contains("Count the apples.") && request.contains("Now the pears."), "{request}");
    let tokens = |record: &JobRecord| record.usage.map(|usage| usage.input_tokens);
    assert_eq!((tokens(&first), tokens(&second)), (Some(200), Some(400)));
    assert!(second.summary.unwrap().contains("tokens: 400 in, 80 out (thread total)"));

    let shown = |args: &[&str]| site.relay(&[&["status"], args].concat());
    assert!(
        shown(&["demo#1"]).contains("history    followed by demo#2 (completed)"),
        "{}",
        shown(&["demo#1"])
    );
    assert!(shown(&["demo"]).contains("history    continues demo#1 (completed)"), "{}", shown(&["demo"]));
    let history = shown(&["demo", "--history"]);
    let jobs: Vec<&str> = history.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(jobs, ["demo#1", "demo#2"], "{history}");
    assert!(history.contains("Count the apples.") && history.contains("Now the pears."), "{history}");
}

#[test]
#[ignore = "needs the real Codex"]
fn an_option_of_codex_with_many_values_does_not_swallow_the_thread_id() {
    let (model, site) = site();
    let image = hex::decode(concat!(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cf",
        "c0f01f00050001ff89993d1d0000000049454e44ae426082"
    ));
    fs::write(site.workspace().join("x.png"), image.unwrap()).unwrap();
    let first = site.ended(&launch(&site, "[script:quick] Count the apples."));
    let job = site.relay(&["resume", "-q", "demo#1", "[script:quick] Look at it.", "--", "-i", "x.png"]);
    let second = site.ended(job.trim());
    assert_eq!(outcome(&second), (State::Completed, None), "{}", site.log("demo#2"));
    assert_eq!(second.thread_id, first.thread_id);
    let request = last_request(&model);
    assert!(request.contains("Count the apples.") && request.contains("input_image"), "{request}");
    // The option applies to the next job of the thread, too.
    resume_to_end(&site, &second, "[script:quick] And again.");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_job_that_failed_at_a_limit_can_be_resumed() {
    let (model, site) = site();
    let more = ["--step-timeout", "command=1s", "[script:sleep] Sleep."];
    let job = site.relay(&[&["launch", "-q", "-w", "workspace-projects/demo"], &more[..]].concat());
    let first = site.ended(job.trim());
    assert_eq!(outcome(&first), (State::Failed, Some(FailureKind::StepTimeout)));
    resume_to_end(&site, &first, "[script:quick] Do not sleep.");
    let request = last_request(&model);
    assert!(request.contains("aborted") && request.contains("Do not sleep."), "{request}");
    let status = site.relay(&["status", "demo"]);
    assert!(status.contains("continues demo#1 (failed: step_timeout)"), "{status}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_running_job_can_not_be_resumed_and_a_cancelled_one_can() {
    let (_model, site) = site();
    let job = launch(&site, "[script:sleep] Sleep.");
    until("the command runs", || site.workspace().join("escaped").exists().then_some(()));
    let stderr = site.refused(2, &["resume", &job, "go on"]);
    assert!(stderr.contains("`relay wait demo#1` or `relay cancel demo#1` first"), "{stderr}");
    site.relay(&["cancel", "--grace", "3s", &job]);
    resume_to_end(&site, &site.record(&job), "[script:quick] Be quick.");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_resumed_job_keeps_the_checks_and_a_key_resumes_only_once() {
    let (_model, site) = site();
    let more = ["--check", "test -e ready", "[script:quick] Begin."];
    let job = site.relay(&[&["launch", "-q", "-w", "workspace-projects/demo"], &more[..]].concat());
    assert_eq!(outcome(&site.ended(job.trim())), (State::Failed, Some(FailureKind::CheckFailed)));
    let again = || site.relay(&["resume", "-q", "demo", "--key", "k1", "[script:quick] Again."]);
    let ids = [again(), again()];
    assert_eq!(ids, ["demo#2\n", "demo#2\n"]);
    assert_eq!(outcome(&site.ended("demo#2")), (State::Failed, Some(FailureKind::CheckFailed)));
    assert_eq!(again(), "demo#2\n", "also after the job has ended");
    site.write("workspace-projects/demo/ready", "");
    resume_to_end(&site, &site.record("demo#2"), "[script:quick] It is ready.");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_resumed_job_whose_thread_is_gone_fails_and_says_what_to_do() {
    let (_model, site) = site();
    let job = launch(&site, "[script:quick] Be quick.");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    fs::remove_dir_all(site.codex_home().join("sessions")).unwrap();
    let output = site.run(&["resume", &job, "--wait", "[script:quick] Again."]);
    assert_eq!(output.status.code(), Some(1));
    let error = site.record("demo#2").error.unwrap();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (FailureKind::CodexExit, "the Codex thread is gone: launch a new job")
    );
}

#[test]
fn a_retry_has_the_flags_of_the_failed_job_and_needs_its_variables_again() {
    let site = Site::new(Engine::Local);
    let more = ["--check", "test -e ready", "--env", "MODE=fast", "--timeout", "1h"];
    let job = site.launch_shell("echo mode=$MODE", &more);
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(FailureKind::CheckFailed)));
    let stderr = site.refused(2, &["retry", &job]);
    assert!(stderr.contains("had MODE") && stderr.contains("--env MODE=VALUE"), "{stderr}");
    assert!(site.refused(2, &["resume", &job, "go on"]).contains("`relay retry demo#1`"));
    site.write("workspace-projects/demo/ready", "");
    let again = || site.command(&["retry", "-q", &job, "--key", "k1"]).env("MODE", "slow").output().unwrap();
    let ids = [again(), again()].map(|output| String::from_utf8(output.stdout).unwrap());
    assert_eq!(ids, ["demo#2\n", "demo#2\n"]);
    let record = site.ended("demo#2");
    assert_eq!(outcome(&record), (State::Completed, None));
    let follows = Follows { job: job.parse().unwrap(), how: FollowUp::Retry };
    assert_eq!((record.origin.follows, record.prompt_summary.as_str()), (Some(follows), "echo mode=$MODE"));
    assert!(site.log("demo#2").contains("mode=slow"), "{}", site.log("demo#2"));
    let status = site.relay(&["status", &job]);
    assert!(status.contains("history    followed by demo#2 (completed)"), "{status}");
}

#[test]
#[ignore = "needs the real Codex"]
fn only_one_of_many_simultaneous_resumes_continues_the_thread() {
    let (_model, site) = site();
    let first = site.ended(&launch(&site, "[script:quick] Count the apples."));
    let resume = || {
        let mut command = site.command(&["resume", "-q", &first.job.to_string(), "[script:quick] Go on."]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<_> = (0..8).map(|_| resume()).collect();
    let outputs: Vec<_> = all.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let launched: Vec<_> = outputs.iter().filter(|output| output.status.success()).collect();
    assert_eq!(launched.len(), 1, "{outputs:?}");
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains("uses the same Codex thread"), "{stderr}");
    }
    site.ended(String::from_utf8_lossy(&launched[0].stdout).trim());
}
