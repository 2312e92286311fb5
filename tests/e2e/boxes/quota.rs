//! Usage limits of the account, in a container per job.

use common::event::EventBody;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, processes};
use relay_tests::scripted_model::script::Script;
use serde_json::json;

use super::SETTING;
use crate::model_gateway;
use crate::quota::{held, limit_once, threads};

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_held_job_goes_on_in_its_container_and_thread_after_a_kill_of_the_relay() {
    let show = "cat /etc/hostname; date +%Z";
    let script = Script::new("limited").run(show).then(limit_once(&json!({"resets_in_seconds": 45})));
    let (_model, site) = model_gateway::site(Engine::Docker, [script.run(show).say("Done.")]);
    site.configure(&format!("{SETTING}max_jobs = 1\n[model]\ngateway = true\n"));
    model_gateway::up(&site);
    let target = ["launch", "-q", "--share", "-w", "workspace-projects/demo"];
    let job = site.relay(&[&target[..], &["--env", "TZ=Asia/Tokyo", "[script:limited] Work."]].concat());
    let job = job.trim();
    let until = held(&site, job).held.unwrap().until.unwrap();
    let container = site.box_of(job);

    // The only slot is free meanwhile.
    let shell = site.launch_shell("true", &[]);
    let shell = site.ended(&shell);
    assert_eq!(outcome(&shell), (State::Completed, None), "{}", site.daemon_log());
    assert!(shell.finished_at < Some(until), "the limit ended before the shell job");
    processes::kill(site.daemon_pid());
    model_gateway::up(&site);
    assert_eq!(site.box_of(job), container);

    let record = site.ended(job);
    let log = site.log(job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}\n{}", site.daemon_log());
    assert_eq!((record.message.as_deref(), record.epoch, &record.held), (Some("Done."), 1, &None));
    assert!(record.finished_at >= Some(until), "{until}");
    let threads = threads(&site, job);
    assert!(threads.len() >= 2 && threads.iter().all(|thread| Some(thread) == record.thread_id.as_ref()));
    let holds = site.events(job).into_iter().filter_map(|line| line.event);
    assert!(holds.into_iter().any(|event| matches!(event.body, EventBody::Held { hold: None })));
    // Both commands ran in the same container.
    let hosts: Vec<&str> = log.lines().map(str::trim).filter(|line| container_host(line)).collect();
    assert!(hosts.len() == 2 && hosts[0] == hosts[1], "{log}");
    assert_eq!(log.matches("JST").count(), 2, "{log}");
    site.wait_for_no_box();
}

/// Returns true for a line with the name of a container's host: twelve hexadecimal digits.
fn container_host(line: &str) -> bool {
    line.len() == 12 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}
