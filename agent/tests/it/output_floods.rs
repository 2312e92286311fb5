//! Tests of commands with a flood of output, with lines of many megabytes, and with bytes that are not text.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, resident_kib, times};
use crate::support::{MAX_PROMPT_END, codex, relay_and_agent};
use common::event::{EventBody, FinalState};

/// Maximum growth of the agent's memory, in KiB, whatever a command writes.
const MAX_GROWTH_KIB: u64 = 16 * 1024;

#[tokio::test]
async fn p18_a_flood_of_output_takes_little_memory_and_delays_no_other_job() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.start(&agent.shell_spec("calm#1", "true")).await;
    relay.until_finished("calm#1").await;
    let before = resident_kib(agent.child.id());
    let seconds = times(5, 60);
    relay.start(&agent.shell_spec("flood#1", &format!("timeout {seconds} yes; true"))).await;
    relay.until_output("flood#1", "y\ny\n").await;
    let flood = "flood#1".parse().unwrap();
    let (mut peak, mut slowest, mut ended_beside) = (before, Duration::ZERO, 0);
    let begun = Instant::now();
    for n in 2.. {
        if begun.elapsed() > Duration::from_secs(seconds - 1) {
            break;
        }
        let job = format!("calm#{n}");
        let asked = Instant::now();
        relay.start(&agent.shell_spec(&job, "true")).await;
        let (state, ..) = relay.until_finished(&job).await.outcome().unwrap();
        assert_eq!(state, FinalState::Completed);
        ended_beside += u32::from(relay.runs[&flood].outcome().is_none());
        slowest = slowest.max(asked.elapsed());
        peak = peak.max(resident_kib(agent.child.id()));
    }
    let run = relay.until_completed("flood#1").await;
    let (grown, output) = (peak - before, run.log_len() / 1_000_000);
    assert!(grown <= MAX_GROWTH_KIB, "{grown} KiB");
    assert!(ended_beside > 0, "no other job ended before the flood");
    assert!(slowest < MAX_PROMPT_END, "{slowest:?}");
    figure(&format!(
        "output flood of {seconds} s (fault P18): {output} MB sent, memory grew {grown} KiB, the slowest other job took {}",
        ms(slowest)
    ));
}

#[tokio::test]
async fn p19_an_endless_line_of_codex_is_truncated_and_the_next_line_is_read() {
    let (mut relay, agent) = relay_and_agent().await;
    relay.start(&codex::job_spec(&agent, "calm#1", &codex::turn(""))).await;
    relay.until_finished("calm#1").await;
    let before = resident_kib(agent.child.id());
    let mib = times(256, 1024);
    let line =
        format!("head -c {mib}M /dev/zero | tr '\\0' a; echo; echo '{}'", codex::message_line("and on"));
    relay.start(&codex::job_spec(&agent, "long#1", &codex::turn(&line))).await;
    let (id, mut peak) = ("long#1".parse().unwrap(), before);
    relay
        .until("the job ends", |relay| {
            peak = peak.max(resident_kib(agent.child.id()));
            relay.runs.get(&id).is_some_and(|run| run.outcome().is_some())
        })
        .await;
    let run = &relay.runs[&id];
    assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))));
    assert!(run.log_text().contains("and on"), "{}", run.log_text());
    let grown = peak - before;
    assert!(grown <= MAX_GROWTH_KIB, "{grown} KiB");
    figure(&format!("line of {mib} MiB (fault P19): truncated, the next line read, memory grew {grown} KiB"));
}

#[tokio::test]
async fn p20_bytes_that_are_not_text_give_the_same_events_however_they_are_split() {
    let (mut relay, agent) = relay_and_agent().await;
    let odd_texts: [&[u8]; 6] =
        [b"\xff\xfe invalid", b"a\0b", "a\u{2028}b".as_bytes(), b"return\r", "\u{feff}mark".as_bytes(), b""];
    let mut lines = Vec::new();
    for text in odd_texts {
        let (head, tail) =
            codex::message_line("@").split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        lines.extend([head.as_bytes(), text, tail.as_bytes(), b"\n", text, b"\r\n"].concat());
    }
    fs::write(agent.dir.path().join("lines"), &lines).unwrap();
    let path = agent.dir.path().join("lines").display().to_string();
    let sizes = [lines.len(), 1, 2, 3, 7];
    let mut results = Vec::new();
    for (n, size) in (1..).zip(sizes) {
        let body = codex::turn(&format!("dd if={path} bs={size} status=none"));
        let job = format!("demo#{n}");
        relay.start(&codex::job_spec(&agent, &job, &body)).await;
        let run = relay.until_finished(&job).await;
        assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))), "{}", run.log_text());
        // The lines of the log begin with a time of day, which differs.
        let text: Vec<String> = run.log_text().lines().map(without_time).collect();
        let bodies: Vec<EventBody> = run.events.iter().map(|event| event.body.clone()).collect();
        let messages: Vec<String> = bodies.iter().filter_map(message_or_warning).collect();
        results.push((run.event_types(), messages, text));
    }
    for result in &results[1..] {
        similar_asserts::assert_eq!(&results[0], result);
    }
    let bytes = lines.len();
    figure(&format!(
        "{bytes} odd bytes in writes of {sizes:?} (fault P20): events and log equal in {0} of {0}",
        results.len()
    ));
}

fn without_time(line: &str) -> String {
    line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ').to_owned()
}

/// Formats an event that contains output of Codex; returns `None` for other events.
fn message_or_warning(body: &EventBody) -> Option<String> {
    match body {
        EventBody::Message { .. } | EventBody::Warning { .. } => Some(format!("{body:?}")),
        _ => None,
    }
}
