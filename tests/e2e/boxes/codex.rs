//! The real Codex in a container per job, against a scripted model.

use common::record::{JobRecord, State};
use relay_tests::harness::docker::gateway;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

use super::SETTING;
use crate::codex;

fn codex_site() -> (relay_tests::harness::model::Model, Site) {
    let (model, site) = codex::site(Engine::Docker, &gateway());
    site.configure(SETTING);
    (model, site)
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_whole_codex_task_runs_in_a_container_of_its_own() {
    let (_model, site) = codex_site();
    codex::create_sample_repository(&site);
    codex::check_whole_task(&site);
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_thread_is_resumed_in_the_container_of_the_next_job() {
    let (_model, site) = codex_site();
    let first = site.ended(&codex::launch(&site, "[script:quick] Be quick."));
    assert_eq!(outcome(&first), (State::Completed, None), "{}", site.log("demo#1"));
    site.wait_for_no_box();
    let job = site.relay(&["resume", "-q", "demo", "[script:quick] Once more."]);
    let second = site.ended(job.trim());
    assert_eq!(outcome(&second), (State::Completed, None), "{}", site.log("demo#2"));
    assert_eq!((first.thread_id.is_some(), &first.thread_id), (true, &second.thread_id));
    // Codex counts the tokens of the thread, the gateway those of the job.
    let tokens = |record: &JobRecord| record.usage.map(|usage| usage.input_tokens);
    assert_eq!((tokens(&first), tokens(&second)), (Some(200), Some(200)));
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn instructions_that_a_worker_leaves_in_its_home_reach_no_other_job() {
    let (_model, site) = codex_site();
    let leave = "mkdir -p ~/.codex/rules; echo canary >~/.codex/AGENTS.md; echo canary >~/left; ls ~/.codex";
    let first = site.ended(&site.launch_shell(leave, &[]));
    assert_eq!(outcome(&first), (State::Completed, None));
    assert!(site.log("demo#1").contains("config.toml"), "{}", site.log("demo#1"));
    let second = site.launch_shell("cat ~/.codex/AGENTS.md ~/left; ls ~/.codex", &[]);
    site.ended(&second);
    let log = site.log(&second);
    assert!(!log.contains("canary\n") && !log.contains("rules"), "{log}");
}
