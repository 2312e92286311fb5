//! Lossless delivery: after any kill or cut, the relay receives every event once and in order.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, times};
use crate::support::{codex, connected, eventually};
use common::event::{EventBody, FailureKind, FinalState};
use common::wire::RelayFrame;

#[tokio::test]
async fn n02_an_agent_that_is_killed_at_any_instant_loses_nothing_it_had_told() {
    let rounds: u32 = times(30, 1000);
    let (mut events, mut resent) = (0, 0);
    for round in 0..rounds {
        let (mut relay, mut agent) = connected().await;
        // Every other relay never acknowledges, and has to receive all of it again.
        let forgets = round % 2 == 1;
        relay.ack = !forgets;
        let path = agent.dir.path().join("flood");
        fs::write(&path, codex::flood(20)).unwrap();
        let body = format!("while sleep 0.01; do cat {}; done", path.display());
        relay.start(&codex::job(&agent, "demo#1", &codex::turn(&body))).await;
        let id = "demo#1".parse().unwrap();
        let begun = Instant::now();
        // A fixed step that is coprime to the number of rounds visits every instant once.
        let instant = Duration::from_millis(400) * (round * 7919 % rounds) / rounds;
        relay
            .until("the instant", |relay| {
                let accepted = relay.runs.get(&id).is_some_and(|run| run.accepted > 0);
                accepted && begun.elapsed() >= instant
            })
            .await;
        agent.kill();
        let held = relay.demo().events.clone();
        relay.drop_connection();
        if forgets {
            relay.runs.clear();
            relay.ack = true;
        }
        agent.again();
        let hello = relay.accept().await;
        assert!(hello.jobs[0].last_seq >= held.len() as u64);
        // The relay itself checks that sequences are dense, and that a repeated event is the same.
        let run = relay.until_finished("demo#1").await;
        let (state, error, _) = run.finished().unwrap();
        assert_eq!((state, error.unwrap().kind), (FinalState::Failed, FailureKind::AgentLost));
        similar_asserts::assert_eq!(run.events[..held.len()], held[..]);
        let ends = run.events.iter().filter(|event| matches!(event.body, EventBody::Finished { .. })).count();
        assert_eq!(ends, 1);
        events += run.events.len();
        resent += if forgets { held.len() } else { 0 };
    }
    figure(&format!(
        "N02 agent killed at {rounds} instants: {events} events, {resent} of them told again; lost 0, duplicated 0, gaps 0"
    ));
}

#[tokio::test]
async fn n11_a_job_that_runs_without_any_relay_is_told_in_full_once_there_is_one() {
    let (mut relay, agent) = connected().await;
    let path = agent.dir.path().join("flood");
    let commands = 2000;
    fs::write(&path, codex::flood(commands)).unwrap();
    let body = format!("until test -e go; do sleep 0.01; done; cat {}; touch done", path.display());
    relay.start(&codex::job(&agent, "demo#1", &codex::turn(&body))).await;
    relay.until_run("demo#1", "is accepted", |run| run.accepted > 0).await;
    let address = relay.leave().await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    let ended =
        || agent.workspace().join("done").exists() && crate::support::below(agent.child.id()).len() == 1;
    eventually("the job ends without a relay", ended).await;
    relay.come_back(address).await;
    let back = Instant::now();
    relay.accept().await;
    let connected = back.elapsed();
    let run = relay.until_completed("demo#1").await;
    let steps = run.finished_steps();
    assert!(steps >= commands, "{steps}");
    let copy = fs::read(agent.workspace().join(".codex-worker/demo.1/log.txt")).unwrap();
    assert_eq!(run.output, copy);
    let (events, bytes) = (run.events.len(), run.output.len());
    figure(&format!(
        "N11 no relay for the whole job: {events} events and {bytes} bytes told in full, {} after it came back ({} of that to connect)",
        ms(back.elapsed()),
        ms(connected)
    ));
}

#[tokio::test]
async fn n13_an_ack_of_the_future_or_of_an_unknown_run_trims_nothing() {
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
        let (mut relay, agent) = connected().await;
        relay.ack = false;
        relay.start(&agent.shell("demo#1", "echo hi")).await;
        relay.until_finished("demo#1").await;
        let held = relay.runs[&"demo#1".parse().unwrap()].events.clone();
        for frame in &frames {
            relay.send(frame).await;
        }
        if !reconnects {
            // The connection still works after them.
            relay.send(&RelayFrame::Ping { nonce: 1 }).await;
            relay.until("the pong", |relay| relay.pongs == 1).await;
            relay.drop_connection();
        }
        relay.runs.clear();
        relay.ack = true;
        let hello = relay.accept().await;
        assert_eq!(hello.jobs[0].last_seq, held.len() as u64);
        let run = relay.until_finished("demo#1").await;
        similar_asserts::assert_eq!(run.events, held);
        assert_eq!(run.text(), "hi\n");
    }
    figure(&format!("N13 acks of the future and of unknown runs in {count} ways: wrong trims 0"));
}
