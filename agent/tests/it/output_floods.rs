//! Commands that write more than can be kept, lines longer than can be read, and bytes that are not text.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, resident_kib, times};
use crate::support::{codex, connected};
use common::event::{EventBody, FinalState};

/// Limit on the growth of the agent's memory, whatever a command writes.
const ROOM_KIB: u64 = 16 * 1024;

#[tokio::test]
async fn p18_a_flood_is_drained_in_bounded_memory_and_milestones_pass_it() {
    let (mut relay, agent) = connected().await;
    relay.start(&agent.shell("calm#1", "true")).await;
    relay.until_finished("calm#1").await;
    let before = resident_kib(agent.child.id());
    let seconds = times(5, 60);
    relay.start(&agent.shell("flood#1", &format!("timeout {seconds} yes; true"))).await;
    relay.until_output("flood#1", "y\ny\n").await;
    let (mut most, mut slowest) = (before, Duration::ZERO);
    let begun = Instant::now();
    for n in 2.. {
        if begun.elapsed() > Duration::from_secs(seconds - 1) {
            break;
        }
        let job = format!("calm#{n}");
        let asked = Instant::now();
        relay.start(&agent.shell(&job, "true")).await;
        let (state, ..) = relay.until_finished(&job).await.finished().unwrap();
        assert_eq!(state, FinalState::Completed);
        slowest = slowest.max(asked.elapsed());
        most = most.max(resident_kib(agent.child.id()));
    }
    let run = relay.until_completed("flood#1").await;
    let (grown, output) = (most - before, run.length() / 1_000_000);
    assert!(grown <= ROOM_KIB, "{grown} KiB");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    figure(&format!(
        "P18 flood of {seconds} s: {output} MB told, memory grew {grown} KiB, the slowest other job took {}",
        ms(slowest)
    ));
}

#[tokio::test]
async fn p19_a_line_without_an_end_is_cut_and_the_stream_goes_on_behind_it() {
    let (mut relay, agent) = connected().await;
    relay.start(&codex::job(&agent, "calm#1", &codex::turn(""))).await;
    relay.until_finished("calm#1").await;
    let before = resident_kib(agent.child.id());
    let mib = times(256, 1024);
    let line = format!("head -c {mib}M /dev/zero | tr '\\0' a; echo; echo '{}'", codex::said("and on"));
    relay.start(&codex::job(&agent, "long#1", &codex::turn(&line))).await;
    let (id, mut most) = ("long#1".parse().unwrap(), before);
    relay
        .until("the job ends", |relay| {
            most = most.max(resident_kib(agent.child.id()));
            relay.runs.get(&id).is_some_and(|run| run.finished().is_some())
        })
        .await;
    let run = &relay.runs[&id];
    assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))));
    assert!(run.text().contains("and on"), "{}", run.text());
    let grown = most - before;
    assert!(grown <= ROOM_KIB, "{grown} KiB");
    figure(&format!("P19 line of {mib} MiB: cut, the next line read, memory grew {grown} KiB"));
}

#[tokio::test]
async fn p20_bytes_that_are_no_text_are_one_event_a_line_however_they_are_split() {
    let (mut relay, agent) = connected().await;
    let odd: [&[u8]; 6] =
        [b"\xff\xfe invalid", b"a\0b", "a\u{2028}b".as_bytes(), b"return\r", "\u{feff}mark".as_bytes(), b""];
    let mut lines = Vec::new();
    for text in odd {
        let (head, tail) =
            codex::said("@").split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        lines.extend([head.as_bytes(), text, tail.as_bytes(), b"\n", text, b"\r\n"].concat());
    }
    fs::write(agent.dir.path().join("lines"), &lines).unwrap();
    let path = agent.dir.path().join("lines").display().to_string();
    let sizes = [lines.len(), 1, 2, 3, 7];
    let mut told = Vec::new();
    for (n, size) in (1..).zip(sizes) {
        let body = codex::turn(&format!("dd if={path} bs={size} status=none"));
        let job = format!("demo#{n}");
        relay.start(&codex::job(&agent, &job, &body)).await;
        let run = relay.until_finished(&job).await;
        assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))), "{}", run.text());
        // The times of day differ.
        let text: Vec<String> = run.text().lines().map(without_time).collect();
        let bodies: Vec<EventBody> = run.events.iter().map(|event| event.body.clone()).collect();
        let kinds: Vec<String> = bodies.iter().filter_map(message).collect();
        told.push((run.kinds(), kinds, text));
    }
    for other in &told[1..] {
        similar_asserts::assert_eq!(&told[0], other);
    }
    let bytes = lines.len();
    figure(&format!(
        "P20 {bytes} odd bytes in writes of {sizes:?}: events and log equal in {0} of {0}",
        told.len()
    ));
}

fn without_time(line: &str) -> String {
    line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ').to_owned()
}

/// Text of an event that carries output of Codex.
fn message(body: &EventBody) -> Option<String> {
    match body {
        EventBody::Message { .. } | EventBody::Warning { .. } => Some(format!("{body:?}")),
        _ => None,
    }
}
