//! The gateway to the Messages API: the real Claude Code works in a box, and never has the key.

use std::fs;

use common::event::{FailureKind, Usage};
use common::record::State;
use relay_tests::harness::docker::docker;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until};
use relay_tests::scripted_messages::{MessagesError, ScriptedMessages};

/// Key that the user of relay has in the environment.
const KEY: &str = "sk-ant-canary-4711";
/// Command line of Claude Code, which writes its events to stdout.
const CLAUDE: &str = "IS_SANDBOX=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_MAX_RETRIES=0 ./claude -p \
                      'Make a file.' --output-format stream-json --verbose --permission-mode bypassPermissions \
                      </dev/null";
/// Command line that counts the places with the key: files of home, folder and temporary folders, and all environments.
const SEARCH: &str = "grep -rlsc 'canar[y]' ~ /tmp /var/tmp /var/lib/worker-agent /proc/*/environ /proc/*/cmdline \
                      --exclude=claude . | wc -l";

/// Creates a site with the gateway, and with Claude Code in its workspace.
fn site(messages: &ScriptedMessages) -> Site {
    let site = Site::new(Engine::Docker);
    site.configure("isolation = \"job\"\n[model]\ngateway = true\n");
    let (program, target) = (programs::claude(), site.workspace().join("claude"));
    // A link costs nothing, but works only on the same disk.
    fs::hard_link(&program, &target).or_else(|_| fs::copy(&program, &target).map(|_| ())).unwrap();
    let variables = [("ANTHROPIC_API_KEY", KEY), ("ANTHROPIC_BASE_URL", &messages.base_url())];
    let up = site.command(&["up"]).envs(variables).output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    site
}

#[test]
#[ignore = "needs Docker and the real Claude Code"]
fn claude_code_in_a_box_does_a_task_through_the_relay_which_alone_has_the_key() {
    let look = "env | grep ANTHROPIC | sort >seen; echo made >made";
    let messages = ScriptedMessages::start(look, None).unwrap();
    let site = site(&messages);
    let wait = "until test -e go; do sleep 0.02; done";
    let job = site.launch_shell(&format!("{CLAUDE} && echo searched: $({SEARCH}) && {wait}"), &[]);
    until("the task is done", || {
        let log = site.log(&job);
        assert!(!site.record(&job).state.is_final(), "{log}\n{}", site.daemon_log());
        log.contains("searched:").then_some(())
    });
    let name = site.box_of(&job);
    let search = docker(&["exec", "-u", "root", "-w", "/workspaces/demo", &name, "sh", "-c", SEARCH]);
    let inspected = docker(&["inspect", &name]);
    site.write("workspace-projects/demo/go", "");
    let (record, log) = (site.ended(&job), site.log(&job));
    assert_eq!(outcome(&record), (State::Completed, None), "{log}");
    assert!(log.contains("\"result\":\"All done.\"") && log.contains("searched: 0\n"), "{log}");
    assert_eq!(fs::read_to_string(site.workspace().join("made")).unwrap(), "made\n");
    assert_eq!((search.as_str(), inspected.contains("canary")), ("0", false));

    let requests = messages.requests();
    for request in &requests {
        assert_eq!((request.key.as_deref(), &request.authorization), (Some(KEY), &None));
        assert!(!request.body.contains("canary"), "{}", request.body);
    }
    let answers = u64::try_from(requests.len()).unwrap();
    assert!(requests[0].target.starts_with("/v1/messages"), "{}", requests[0].target);
    let usage = Usage {
        input_tokens: 110 * answers,
        cached_input_tokens: 10 * answers,
        output_tokens: 20 * answers,
        reasoning_output_tokens: 0,
    };
    let total = record.model_usage.unwrap();
    assert_eq!((total.answers, total.usage), (answers, usage));
    let seen = fs::read_to_string(site.workspace().join("seen")).unwrap();
    assert!(seen.contains("ANTHROPIC_BASE_URL=http://127.0.0.1:"), "{seen}");
    assert!(seen.lines().any(|line| line.starts_with("ANTHROPIC_API_KEY=")), "{seen}");
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker and the real Claude Code"]
fn errors_of_the_messages_api_are_problems_of_the_account_in_the_record() {
    for (status, kind, expected) in [
        (429, "rate_limit_error", FailureKind::RateLimited),
        (529, "overloaded_error", FailureKind::Overloaded),
        (401, "authentication_error", FailureKind::Auth),
    ] {
        let messages = ScriptedMessages::start("true", Some(MessagesError { status, kind })).unwrap();
        let site = site(&messages);
        let record = site.ended(&site.launch_shell(CLAUDE, &[]));
        assert_eq!(record.state, State::Failed, "{}", site.log("demo#1"));
        let problem = record.model_problem.unwrap();
        assert_eq!((problem.kind, problem.message.as_str()), (expected, "scripted"), "{kind}");
        site.wait_for_no_box();
    }
}
