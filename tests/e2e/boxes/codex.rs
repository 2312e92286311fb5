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

#[test]
#[ignore = "needs Docker and the real Codex"]
fn only_named_mcp_servers_of_the_host_come_in_and_a_missing_program_is_a_warning() {
    let (_model, site) = codex_site();
    let config = std::fs::read_to_string(site.codex_home().join("config.toml")).unwrap();
    let programs =
        "[mcp_servers.docs]\ncommand = \"/no/such/program\"\n[mcp_servers.private]\ncommand = \"sh\"\n";
    site.write_codex("config.toml", &format!("notify = [\"canary\"]\n{config}\n{programs}"));
    site.configure(&format!("{SETTING}[codex]\nmcp = [\"docs\", \"absent\"]\n"));
    let refused = site.refused(2, &["up"]);
    assert!(refused.contains("has no MCP server \"absent\" (it has: docs, private)"), "{refused}");
    site.configure(&format!("{SETTING}[codex]\nmcp = [\"docs\"]\n"));
    site.relay(&["up"]);
    let record = site.ended(&codex::launch(&site, "[script:quick] Be quick."));
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log("demo#1"));
    let warnings = &record.warnings.newest;
    let warning = "the MCP server docs did not start";
    assert!(warnings.len() == 1 && warnings[0].contains(warning), "{warnings:?}");
    let shown = site.launch_shell("cat ~/.codex/config.toml", &[]);
    site.ended(&shown);
    let log = site.log(&shown);
    assert!(log.contains("[mcp_servers.docs]"), "{log}");
    assert!(!log.contains("private") && !log.contains("canary"), "{log}");
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_config_of_the_workers_own_takes_the_place_of_the_host_s() {
    let (_model, site) = codex_site();
    site.write("platform/codex.toml", "model = \"gpt-5.5\"\nmodel_verbosity = \"low\"\n");
    site.configure(&format!("{SETTING}[codex]\nconfig = \"platform/codex.toml\"\n"));
    site.relay(&["up"]);
    let record = site.ended(&codex::launch(&site, "[script:quick] Be quick."));
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log("demo#1"));
    let shown = site.launch_shell("cat ~/.codex/config.toml", &[]);
    site.ended(&shown);
    let log = site.log(&shown);
    assert!(log.contains("model_verbosity") && !log.contains("update_plan"), "{log}");
    // A changed content needs another approval.
    site.write("platform/codex.toml", "model = \"gpt-5.5\"\nnotify = [\"sh\"]\n");
    let refused = site.command_without_approval(&["restart"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(5), "{}", String::from_utf8_lossy(&refused.stderr));
}
