//! Tests of lost connections, which have no effect on running jobs, and of wrong configurations.

use std::process::{Command, Stdio};

use crate::support::{Relay, binary, configure, eventually, relay_and_agent};
use common::event::FinalState;
use common::wire::RelayFrame;

#[tokio::test]
async fn a_job_goes_on_without_a_relay_and_is_reported_in_full_afterwards() {
    let (mut relay, agent) = relay_and_agent().await;
    let line = "echo ready; until test -e go; do sleep 0.02; done; seq 1 20000; touch done";
    relay.start(&agent.shell_spec("demo#1", line)).await;
    relay.until_output("demo#1", "ready").await;
    relay.drop_connection();
    std::fs::write(agent.workspace().join("go"), "").unwrap();
    eventually("the job ends without a relay", || agent.workspace().join("done").exists()).await;
    let hello = relay.accept().await;
    assert_eq!(hello.jobs.len(), 1);
    let run = relay.until_finished("demo#1").await;
    assert_eq!(run.outcome().unwrap().0, FinalState::Completed);
    assert!(run.log_text().ends_with("19999\n20000\n"));
    assert_eq!(run.log_text().lines().count(), 20001);
}

#[tokio::test]
async fn events_that_were_never_acknowledged_are_sent_again_unchanged() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.sends_acks = false;
    relay.start(&agent.shell_spec("demo#1", "echo hi")).await;
    relay.until_finished("demo#1").await;
    let first_sent = relay.runs[&"demo#1".parse().unwrap()].events.clone();
    relay.drop_connection();
    relay.runs.clear();
    relay.sends_acks = true;
    relay.accept().await;
    let run = relay.until_finished("demo#1").await;
    similar_asserts::assert_eq!(run.events, first_sent);
    let spool = agent.state().join("spool.v5");
    relay.until("the spool is empty", |_| spool.read_dir().unwrap().count() == 0).await;
}

#[tokio::test]
async fn an_agent_answers_pings_and_connects_to_a_newly_configured_address() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.send(&RelayFrame::Ping { nonce: 7 }).await;
    relay.until("the pong", |relay| relay.pongs == 1).await;
    let mut other = Relay::new().await;
    let config = crate::support::tls::config(&other.url(), crate::support::TOKEN);
    configure(&agent.state(), &config.to_string());
    other.accept().await;
}

#[tokio::test]
async fn an_agent_waits_for_its_configuration_and_a_second_agent_is_refused() {
    let (mut relay, mut agent) = relay_and_agent().await;
    let second = Command::new(binary()).arg("run").arg("--state").arg(agent.state()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let line = String::from_utf8(second.stderr).unwrap();
    assert!(line.contains(&agent.state().display().to_string()) && line.lines().count() == 1, "{line}");
    agent.kill();
    std::fs::remove_file(agent.state().join("config.json")).unwrap();
    relay.drop_connection();
    agent.restart();
    let config = crate::support::tls::config(&relay.url(), crate::support::TOKEN);
    configure(&agent.state(), &config.to_string());
    relay.accept().await;
}

#[test]
fn wrong_usage_is_reported_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(binary())
        .args(["configure", "--state"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(
        &mut child.stdin.take().unwrap(),
        br#"{"url":"ws://h/agent","certificate":"","token":"t"}"#,
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("wss://") && line.lines().count() == 1, "{line}");
    let status = Command::new(binary()).arg("levitate").stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
