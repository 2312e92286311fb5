//! Tests of a Codex that takes long to report its version: the agent does everything else meanwhile.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::fs;

use crate::support::{Agent, eventually, relay_and_agent};
use common::event::FinalState;
use common::job::{JobSpec, Runner};
use common::wire::RelayFrame;

/// Returns the spec of a job whose Codex reports its version only when the file `go` exists.
fn slow_spec(agent: &Agent, job: &str) -> JobSpec {
    let mut spec = crate::support::codex::job_spec(agent, job, "");
    let program = std::path::Path::new(&spec.codex.program);
    let dir = agent.dir.path().display();
    let wait = "touch asked; until test -e go; do sleep 0.05; done; echo codex-cli 0.169.0";
    let script = format!("#!/bin/sh\ncd {dir}\n{wait}\n");
    fs::write(program, script).unwrap();
    spec.runner = Runner::Codex;
    spec
}

async fn until_version_is_requested(agent: &Agent) {
    let file = agent.dir.path().join("asked");
    eventually("Codex is asked for its version", || file.exists()).await;
}

#[tokio::test]
async fn frames_are_answered_while_codex_is_asked_for_its_version() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.start(&slow_spec(&agent, "slow#1")).await;
    until_version_is_requested(&agent).await;
    relay.send(&RelayFrame::Ping { nonce: 7 }).await;
    relay.until("the ping is answered", |relay| relay.pongs > 0).await;
    assert_eq!(relay.runs.len(), 0, "the job was accepted or refused before the pong");
}

#[tokio::test]
async fn a_job_can_be_cancelled_while_codex_is_asked_for_its_version() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.start(&slow_spec(&agent, "slow#1")).await;
    until_version_is_requested(&agent).await;
    relay.cancel("slow#1", 100).await;
    let run = relay.until_finished("slow#1").await;
    assert_eq!(run.outcome().unwrap().0, FinalState::Cancelled);
}

#[tokio::test]
async fn a_stopping_agent_refuses_a_job_whose_codex_is_asked_for_its_version() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.start(&agent.shell_spec("runs#1", "trap '' TERM; while :; do sleep 0.05; done")).await;
    relay.until("the job runs", |relay| relay.runs.values().any(|run| run.pid().is_some())).await;
    relay.start(&slow_spec(&agent, "slow#1")).await;
    until_version_is_requested(&agent).await;
    agent.signal(rustix::process::Signal::TERM);
    let slow = "slow#1".parse().unwrap();
    relay.until_run("runs#1", "is stopping", |run| run.event_types().contains(&"stopping".to_owned())).await;
    fs::write(agent.dir.path().join("go"), "").unwrap();
    relay
        .until_closed("the job is refused", |relay| {
            relay.runs.get(&slow).is_some_and(|run| run.refusal.is_some())
        })
        .await;
    let (reason, is_busy) = relay.runs[&slow].refusal.clone().unwrap();
    assert!(is_busy && reason.contains("stopping"), "{reason}");
    assert_eq!(relay.runs[&slow].accept_count, 0);
}
