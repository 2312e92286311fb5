//! Tests of lossless delivery: the relay receives every event once and in order, whatever dies or disconnects.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, times};
use crate::support::{codex, eventually, relay_and_agent};
use common::event::{EventBody, FailureKind, FinalState};
use common::wire::RelayFrame;

#[tokio::test]
async fn n02_an_agent_killed_at_any_instant_loses_no_event_that_it_had_sent() {
    let rounds: u32 = times(30, 1000);
    let (mut events, mut resent) = (0, 0);
    for round in 0..rounds {
        let (mut relay, mut agent) = relay_and_agent().await;
        // In every other round the relay never acknowledges, forgets everything, and has to receive it again.
        let is_forgetful = round % 2 == 1;
        relay.sends_acks = !is_forgetful;
        let path = agent.dir.path().join("flood");
        fs::write(&path, codex::command_lines(20)).unwrap();
        let body = format!("while sleep 0.01; do cat {}; done", path.display());
        relay.start(&codex::job_spec(&agent, "demo#1", &codex::turn(&body))).await;
        let id = "demo#1".parse().unwrap();
        let begun = Instant::now();
        // 7919 is coprime to the number of rounds, so each of the instants occurs once, in an irregular order.
        let instant = Duration::from_millis(400) * (round * 7919 % rounds) / rounds;
        relay
            .until("the instant", |relay| {
                let accepted = relay.runs.get(&id).is_some_and(|run| run.accept_count > 0);
                accepted && begun.elapsed() >= instant
            })
            .await;
        agent.kill();
        let held = relay.demo().events.clone();
        relay.drop_connection();
        if is_forgetful {
            relay.runs.clear();
            relay.sends_acks = true;
        }
        agent.restart();
        let hello = relay.accept().await;
        assert!(hello.jobs[0].last_seq >= held.len() as u64);
        // The fake relay checks that no event is missing, and that a repeated event is the same.
        let run = relay.until_finished("demo#1").await;
        let (state, error, _) = run.outcome().unwrap();
        assert_eq!((state, error.unwrap().kind), (FinalState::Failed, FailureKind::AgentLost));
        similar_asserts::assert_eq!(run.events[..held.len()], held[..]);
        let ends = run.events.iter().filter(|event| matches!(event.body, EventBody::Finished { .. })).count();
        assert_eq!(ends, 1);
        events += run.events.len();
        resent += if is_forgetful { held.len() } else { 0 };
    }
    figure(&format!(
        "agent killed at {rounds} instants (fault N02): {events} events, {resent} of them sent again; lost 0, duplicated 0, gaps 0"
    ));
}

#[tokio::test]
async fn n11_a_job_that_runs_without_a_relay_is_reported_in_full_afterwards() {
    let (mut relay, agent) = relay_and_agent().await;
    let path = agent.dir.path().join("flood");
    let commands = 2000;
    fs::write(&path, codex::command_lines(commands)).unwrap();
    let body = format!("until test -e go; do sleep 0.01; done; cat {}; touch done", path.display());
    relay.start(&codex::job_spec(&agent, "demo#1", &codex::turn(&body))).await;
    relay.until_run("demo#1", "is accepted", |run| run.accept_count > 0).await;
    let address = relay.stop_listening().await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    let ended = || {
        agent.workspace().join("done").exists() && crate::support::process_tree(agent.child.id()).len() == 1
    };
    eventually("the job ends without a relay", ended).await;
    relay.listen_at(address).await;
    let returned_at = Instant::now();
    relay.accept().await;
    let connect_time = returned_at.elapsed();
    let run = relay.until_completed("demo#1").await;
    let steps = run.finished_step_count();
    assert!(steps >= commands, "{steps}");
    let copy = fs::read(agent.workspace().join(".codex-worker/demo.1/log.txt")).unwrap();
    assert_eq!(run.output, copy);
    let (events, bytes) = (run.events.len(), run.output.len());
    figure(&format!(
        "no relay for the whole job (fault N11): all {events} events and {bytes} bytes delivered {} after it came back ({} of that to connect)",
        ms(returned_at.elapsed()),
        ms(connect_time)
    ));
}

#[tokio::test]
async fn n13_an_ack_beyond_the_last_event_or_of_an_unknown_run_removes_nothing() {
    let future = RelayFrame::Ack { job: "demo#1".parse().unwrap(), epoch: 1, seq: 999 };
    let output = RelayFrame::OutputAck { job: "demo#1".parse().unwrap(), epoch: 1, offset: 999 };
    let unknown = |epoch, job: &str| RelayFrame::Ack { job: job.parse().unwrap(), epoch, seq: 3 };
    let cases = [
        (true, vec![future]),
        (true, vec![output]),
        (false, vec![unknown(1, "other#1"), unknown(2, "demo#1"), unknown(7, "demo#2")]),
    ];
    let count = cases.len();
    for (reconnects, frames) in cases {
        let (mut relay, agent) = relay_and_agent().await;
        relay.sends_acks = false;
        relay.start(&agent.shell_spec("demo#1", "echo hi")).await;
        relay.until_finished("demo#1").await;
        let held = relay.runs[&"demo#1".parse().unwrap()].events.clone();
        for frame in &frames {
            relay.send(frame).await;
        }
        if !reconnects {
            // The connection still works after these frames.
            relay.send(&RelayFrame::Ping { nonce: 1 }).await;
            relay.until("the pong", |relay| relay.pongs == 1).await;
            relay.drop_connection();
        }
        relay.runs.clear();
        relay.sends_acks = true;
        let hello = relay.accept().await;
        assert_eq!(hello.jobs[0].last_seq, held.len() as u64);
        let run = relay.until_finished("demo#1").await;
        similar_asserts::assert_eq!(run.events, held);
        assert_eq!(run.log_text(), "hi\n");
    }
    figure(&format!("acks of the future and of unknown runs in {count} ways (fault N13): wrong trims 0"));
}
