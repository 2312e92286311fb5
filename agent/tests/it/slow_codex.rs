//! A Codex that takes long to report its version delays nothing else.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Agent, connected, eventually};
use common::event::FinalState;
use common::job::{JobSpec, Runner};
use common::wire::RelayFrame;

/// Less than the agent's timeout for an answer: anything that happens within it did not wait for the answer.
const SOON: Duration = Duration::from_secs(4);

/// A job whose Codex prints nothing until the file `go` exists.
fn slow(agent: &Agent, job: &str) -> JobSpec {
    let mut spec = crate::support::codex::job(agent, job, "");
    let program = std::path::Path::new(&spec.codex.program);
    let dir = agent.dir.path().display();
    let wait = "touch asked; until test -e go; do sleep 0.05; done; echo codex-cli 0.169.0";
    let script = format!("#!/bin/sh\ncd {dir}\n{wait}\n");
    fs::write(program, script).unwrap();
    spec.runner = Runner::Codex;
    spec
}

async fn asked(agent: &Agent) {
    let asked = agent.dir.path().join("asked");
    eventually("Codex is asked for its version", || asked.exists()).await;
}

#[tokio::test]
async fn frames_are_answered_while_codex_is_asked_for_its_version() {
    let (mut relay, agent) = connected().await;
    relay.start(&slow(&agent, "slow#1")).await;
    asked(&agent).await;
    let begun = Instant::now();
    relay.send(&RelayFrame::Ping { nonce: 7 }).await;
    relay.until("the ping is answered", |relay| relay.pongs > 0).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(relay.runs.len(), 0, "the job was answered first");
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_codex_is_asked_is_cancelled() {
    let (mut relay, agent) = connected().await;
    relay.start(&slow(&agent, "slow#1")).await;
    asked(&agent).await;
    relay.cancel("slow#1", 100).await;
    let run = relay.until_finished("slow#1").await;
    assert_eq!(run.finished().unwrap().0, FinalState::Cancelled);
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_takes_no_job_that_it_was_looking_at() {
    let (mut relay, agent) = connected().await;
    relay.start(&agent.shell("runs#1", "trap '' TERM; while :; do sleep 0.05; done")).await;
    relay.until("the job runs", |relay| relay.runs.values().any(|run| run.started().is_some())).await;
    relay.start(&slow(&agent, "slow#1")).await;
    asked(&agent).await;
    agent.signal(rustix::process::Signal::TERM);
    let slow = "slow#1".parse().unwrap();
    relay.until_run("runs#1", "is stopping", |run| run.kinds().contains(&"stopping".to_owned())).await;
    fs::write(agent.dir.path().join("go"), "").unwrap();
    relay
        .until_closed("the job is refused", |relay| {
            relay.runs.get(&slow).is_some_and(|run| run.refused.is_some())
        })
        .await;
    let (reason, busy) = relay.runs[&slow].refused.clone().unwrap();
    assert!(busy && reason.contains("stopping"), "{reason}");
    assert_eq!(relay.runs[&slow].accepted, 0);
}
