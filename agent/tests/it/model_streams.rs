//! Connections of a job's Codex to the model: each is a stream to the relay, which sends back what it receives here.

use std::sync::Arc;

use common::stream::StreamService;
use tokio::sync::Barrier;

use crate::support::codex::{self, turn};
use crate::support::relay_and_agent;

const TOKEN: &str = "t0ken-of-this-job";
/// Shell commands that put the port of the model into `port`.
const FIND_PORT: &str = r#"port=$(printf '%s\n' "$@" | sed -n 's|.*http://127.0.0.1:\([0-9]*\)/v1.*|\1|p')"#;

/// Returns a bash command that sends a line and the token to the model, and prints the answer, or `lost` if none arrives.
fn ask(line: &str) -> String {
    format!(
        "exec 3<>/dev/tcp/127.0.0.1/$port; printf \"%s\\n\" \"{line}\" $RELAY_JOB_TOKEN >&3; \
         if read -r answer <&3; then echo \"got $answer\" >&2; else echo lost >&2; fi; exec 3>&-"
    )
}

/// Returns the script of a Codex that runs bash commands.
fn script(commands: &str) -> String {
    format!("{FIND_PORT}; export port; {}", turn(&format!("bash -c '{commands}'")))
}

#[tokio::test]
async fn twenty_connections_at_once_reach_the_relay() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.streams.model_barrier = Arc::new(Barrier::new(20));
    let body = script(&format!("for n in $(seq 20); do ({}) & done; wait", ask("hello $n")));
    let spec = codex::job_spec(&agent, "demo#1", &body);
    relay.start_with_model(&spec, TOKEN).await;
    let log = relay.until_completed("demo#1").await.log_text();
    for n in 1..=20 {
        assert!(log.contains(&format!("got hello {n}\n")), "{n}: {log}");
    }
    assert_eq!(relay.streams.opened_services, [StreamService::Model; 20]);
}

#[tokio::test]
async fn a_connection_breaks_with_the_relay_and_the_next_one_waits_for_it() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.streams.model_barrier = Arc::new(Barrier::new(2));
    let body = script(&format!("{}; {}", ask("first"), ask("second")));
    let spec = codex::job_spec(&agent, "demo#1", &body);
    relay.start_with_model(&spec, TOKEN).await;
    relay.until("a connection is open", |relay| !relay.streams.opened_services.is_empty()).await;
    relay.drop_connection();
    relay.streams.model_barrier = Arc::new(Barrier::new(1));
    relay.accept().await;
    let log = relay.until_completed("demo#1").await.log_text();
    let lost = log.find("lost\n");
    assert!(lost.is_some() && log.find("got second\n") > lost, "{log}");
}

#[tokio::test]
async fn codex_gets_the_token_of_its_job_and_its_log_does_not() {
    let (mut relay, agent) = relay_and_agent().await;
    let body = turn("echo \"$RELAY_JOB_TOKEN\" >seen; echo \"token $RELAY_JOB_TOKEN\" >&2");
    let spec = codex::job_spec(&agent, "demo#1", &body);
    relay.start_with_model(&spec, TOKEN).await;
    let log = relay.until_completed("demo#1").await.log_text();
    assert!(log.contains("token ***RELAY_JOB_TOKEN***") && !log.contains(TOKEN), "{log}");
    let seen = std::fs::read_to_string(agent.workspace().join("seen")).unwrap();
    assert_eq!(seen.trim(), TOKEN);
}
