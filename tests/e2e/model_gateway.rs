//! The gateway to the model: workers reach the model through the relay, and never have the model's key.

use std::process::Command;

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::docker::docker;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, programs, until};
use relay_tests::scripted_model::script::{Act, Fault, Script};
use relay_tests::scripted_model::{ScriptedModel, Scripts, write_codex_home};

use crate::codex::launch;

/// Key that the model's server expects.
const KEY: &str = "sk-canary-4711";
/// Keys that the user of relay has in the environment, none of which a worker may get.
const KEYS: [(&str, &str); 2] = [("SCRIPTED_KEY", KEY), ("CODEX_API_KEY", "sk-other-canary-4712")];

/// Creates a site whose workers reach the scripted model through the relay. The provider has a key in a variable.
pub(crate) fn site(engine: Engine, scripts: impl IntoIterator<Item = Script>) -> (ScriptedModel, Site) {
    let site = Site::new(engine);
    let model = ScriptedModel::start_on_thread(scripts.into_iter().collect::<Scripts>()).unwrap();
    write_codex_home(site.codex_home(), &model.base_url()).unwrap();
    edit_codex_config(&site, "wire_api =", "env_key = \"SCRIPTED_KEY\"\nwire_api =");
    let codex = if engine == Engine::Local {
        format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", programs::codex().display())
    } else {
        String::new()
    };
    site.configure(&format!("{codex}[model]\ngateway = true\n"));
    (model, site)
}

/// Replaces a text in the `config.toml` of the user's Codex.
pub(crate) fn edit_codex_config(site: &Site, old: &str, new: &str) {
    let path = site.codex_home().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{text}");
    std::fs::write(path, text.replace(old, new)).unwrap();
}

/// Starts the relay, with the keys in its environment.
pub(crate) fn up(site: &Site) {
    let mut command: Command = site.command(&["up"]);
    let output = command.envs(KEYS).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs the real Codex"]
fn the_relay_puts_in_the_models_key_and_the_worker_never_has_it() {
    let look = "env | sort; echo '--- codex:'; tr '\\0' '\\n' </proc/$PPID/environ";
    let (model, site) = site(Engine::Local, [Script::new("looks").run(look).say("Looked.")]);
    up(&site);
    let job = launch(&site, "[script:looks] Look for a key.");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}\n{}", site.daemon_log());
    assert_eq!(record.message.as_deref(), Some("Looked."));
    let keys: Vec<_> = model.requests().into_iter().map(|request| request.authorization).collect();
    assert_eq!(keys, vec![Some(format!("Bearer {KEY}")); 2]);

    let (commands, codex) = log.split_once("\n    --- codex:").unwrap();
    assert!(commands.contains("RELAY_JOB=demo#1") && !commands.contains("RELAY_JOB_TOKEN"), "{log}");
    assert!(codex.contains("RELAY_JOB_TOKEN=***RELAY_JOB_TOKEN***"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    let inputs: Vec<_> = model.requests().into_iter().map(|request| request.body.to_string()).collect();
    assert!(!inputs.concat().contains("canary"), "{inputs:?}");

    // The thread goes on through another port, with another token.
    let next = site.relay(&["resume", "-q", &job, "[script:looks] Look again."]);
    let next = site.ended(next.trim());
    assert_eq!(outcome(&next), (State::Completed, None), "{}", site.log("demo#2"));
    assert_eq!((record.thread_id.is_some(), &record.thread_id), (true, &next.thread_id));
    assert_eq!(model.requests().len(), 4);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_request_that_a_restart_of_the_relay_interrupts_is_repeated() {
    let hang = Act::Fault { fault: Fault::Hang, times: Some(1) };
    let (model, site) = site(Engine::Local, [Script::new("hangs").then(hang).say("Answered.")]);
    edit_codex_config(&site, "max_retries = 0", "max_retries = 5");
    up(&site);
    let job = launch(&site, "[script:hangs] Wait for the relay.");
    until("the request is open", || (model.requests().len() == 1).then_some(()));
    processes::kill(site.daemon_pid());
    up(&site);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}\n{}", site.log(&job), site.daemon_log());
    assert_eq!(record.message.as_deref(), Some("Answered."));
    let keys: Vec<_> = model.requests().into_iter().map(|request| request.authorization).collect();
    assert_eq!(keys, vec![Some(format!("Bearer {KEY}")); 2]);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worker_in_a_sandbox_uses_the_gateway_whatever_provider_its_arguments_name() {
    let (model, site) = site(Engine::Local, [Script::new("looks").run("env | sort").say("Looked.")]);
    site.configure_in_sandbox("args = [\"-c\", 'model_provider=\"openai\"']\n[model]\ngateway = true\n");
    up(&site);
    let job = launch(&site, "[script:looks] Look for a key.");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}\n{}", site.daemon_log());
    assert!(log.contains("RELAY_JOB=demo#1") && !log.contains("canary"), "{log}");
    let keys: Vec<_> = model.requests().into_iter().map(|request| request.authorization).collect();
    assert_eq!(keys, vec![Some(format!("Bearer {KEY}")); 2]);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_server_without_a_key_gets_none_and_its_settings_about_retries_hold() {
    let unavailable = Fault::HttpError { status: 500, body: serde_json::json!("out of order") };
    let (model, site) = site(Engine::Local, [Script::new("fails").fault(unavailable)]);
    edit_codex_config(&site, "env_key = \"SCRIPTED_KEY\"\n", "");
    up(&site);
    let record = site.ended(&launch(&site, "[script:fails] Try once."));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Overloaded)), "{}", site.daemon_log());
    // Codex's own default are four more requests.
    let keys: Vec<_> = model.requests().into_iter().map(|request| request.authorization).collect();
    assert_eq!(keys, [None]);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_launch_without_the_model_s_key_is_refused_until_the_key_is_there() {
    let (model, site) = site(Engine::Local, [Script::new("works").say("Done.")]);
    site.relay(&["up"]);
    let launch_args = ["launch", "-q", "--share", "-w", "workspace-projects/demo", "[script:works] Work."];
    let refused = site.refused(5, &launch_args);
    let reason = "the model provider \"scripted\" takes its key from SCRIPTED_KEY, which is not set";
    assert!(refused.contains(reason), "{refused}");
    assert!(!site.file_path("demo#1", "json").exists(), "a refused launch leaves no job");
    edit_codex_config(&site, "env_key = \"SCRIPTED_KEY\"", &format!("experimental_bearer_token = \"{KEY}\""));
    let launch_succeeds = || site.command(&launch_args).output().unwrap().status.success();
    until("the relay has found the key, without a restart", || launch_succeeds().then_some(()));
    let record = site.ended("demo#1");
    assert_eq!((outcome(&record), model.requests().len()), ((State::Completed, None), 1));
}

#[test]
#[ignore = "needs the real Codex"]
fn a_server_that_is_down_fails_the_job_with_its_address() {
    let (model, site) = site(Engine::Local, [Script::new("works").say("Done.")]);
    // A port without a server: the system gave it to a listener that is closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    edit_codex_config(&site, &model.base_url(), &format!("http://{closed}/v1"));
    up(&site);
    let record = site.ended(&launch(&site, "[script:works] Work."));
    let message = record.error.unwrap().message;
    assert!(message.contains("relay: the model's server 127.0.0.1 can't be reached"), "{message}");
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_container_has_no_key_and_reaches_the_model_through_the_relay_alone() {
    // The model listens on this machine's loopback, which the container can't reach.
    let look = "cat /proc/*/environ ~/.codex/* 2>/dev/null | tr '\\0' '\\n' | grep -c 'canar[y]'; \
                test -e ~/.codex/auth.json || echo no login";
    let (model, site) = site(Engine::Docker, [Script::new("looks").run(look).say("Looked.")]);
    site.write_codex("auth.json", "{\"OPENAI_API_KEY\": \"sk-file-canary-4713\"}");
    up(&site);
    let job = launch(&site, "[script:looks] Look for a key.");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}\n{}", site.daemon_log());
    assert!(log.contains("\n    0\n    no login"), "{log}");
    let keys: Vec<_> = model.requests().into_iter().map(|request| request.authorization).collect();
    assert_eq!(keys, vec![Some(format!("Bearer {KEY}")); 2]);
    let container = site.container();
    let files = "/proc/*/environ /home/worker/.codex/* /var/lib/worker-agent/*";
    let search = format!("cat {files} 2>/dev/null | grep -c 'canar[y]' || true");
    assert_eq!(docker(&["exec", "-u", "root", &container, "sh", "-c", &search]).trim(), "0");
    assert!(!docker(&["inspect", &container]).contains("canary"));
}
