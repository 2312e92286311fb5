//! Human-readable log of a Codex worker. Pure.
//!
//! ```text
//! 14:03:07 $ npm ci
//!     added 12 packages
//!     exit 0 after 2.3s
//! 14:03:12 All tests pass.
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use common::event::PlanItem;
use jiff::Timestamp;

use crate::codex::event::{CodexEvent, Item, Phase};
use crate::codex::lines::Line;
use crate::steps::rules;

/// Maximum number of bytes of a command's output that are shown: half of them from its beginning, half from its end.
const MAX_OUTPUT: usize = 16 * 1024;
/// Maximum length of one message or warning, in bytes.
const MAX_TEXT: usize = 16 * 1024;
/// Maximum number of running commands whose start time is remembered.
const MAX_RUNNING_COMMANDS: usize = 256;
/// Lines that Codex prints on stderr and that the log leaves out, because they mean nothing to users.
const NOISE: &[&str] = &["Reading additional input from stdin...", "Reading prompt from stdin..."];

/// Renderer of a worker's events as text.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    command_starts: HashMap<String, Duration>,
    last_plan: Vec<PlanItem>,
}

impl Transcript {
    /// Returns the text of an event; empty for events that users need not see. `now` is monotonic time; `wall_time` is
    /// the time that the text shows.
    pub(crate) fn render_event(&mut self, now: Duration, wall_time: Timestamp, event: &CodexEvent) -> String {
        let stamp = wall_time.strftime("%H:%M:%S").to_string();
        match event {
            CodexEvent::ThreadStarted { id } => format!("{stamp} thread {id}\n"),
            CodexEvent::TurnStarted => String::new(),
            CodexEvent::TurnCompleted { usage } => {
                let tokens = usage
                    .map(|usage| format!(" ({} tokens in, {} out)", usage.input_tokens, usage.output_tokens));
                format!("{stamp} turn completed{}\n", tokens.unwrap_or_default())
            }
            CodexEvent::TurnFailed { message } => with_stamp(&stamp, "turn failed: ", message),
            CodexEvent::Error { message } => with_stamp(&stamp, "error: ", message),
            CodexEvent::Item { phase, id, item } => self.render_item(now, &stamp, *phase, id, item),
            CodexEvent::Unknown { description: what } => {
                with_stamp(&stamp, "codex printed something unknown: ", what)
            }
        }
    }

    fn render_item(&mut self, now: Duration, stamp: &str, phase: Phase, id: &str, item: &Item) -> String {
        match (item, phase) {
            (Item::Command { command, .. }, Phase::Started) => {
                if self.command_starts.len() < MAX_RUNNING_COMMANDS {
                    self.command_starts.insert(id.to_owned(), now);
                }
                with_stamp(stamp, "$ ", &rules::strip_shell(command))
            }
            (Item::Command { command, output, gap, exit_code, .. }, Phase::Completed) => {
                let started = self.command_starts.remove(id);
                let mut text = String::new();
                if started.is_none() {
                    text = with_stamp(stamp, "$ ", &rules::strip_shell(command));
                }
                let (gap_start, missing_bytes) = gap.unwrap_or((output.len() / 2, 0));
                indent(&mut text, &head_and_tail(output, gap_start, missing_bytes, MAX_OUTPUT));
                let exit = exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit {code}"));
                let duration = started.map(|started| {
                    format!(
                        " after {}",
                        common::duration::format_duration(common::duration::to_millis(
                            now.saturating_sub(started)
                        ))
                    )
                });
                let _ = writeln!(text, "    {exit}{}", duration.unwrap_or_default());
                text
            }
            (Item::Message(message), Phase::Completed) => with_stamp(stamp, "", message),
            (Item::Reasoning(thought), Phase::Completed) => with_stamp(stamp, "thinking: ", thought),
            (Item::Files { files, failed }, Phase::Completed) => {
                let mut text = String::new();
                for file in files {
                    let failed = if *failed { " (failed)" } else { "" };
                    let _ = writeln!(text, "{stamp} {} {}{failed}", file.kind, file.path);
                }
                text
            }
            (Item::Tool { name, .. }, Phase::Started) => with_stamp(stamp, "tool ", name),
            (Item::Tool { name, failed: true }, Phase::Completed) => with_stamp(stamp, "tool failed: ", name),
            (Item::Search(query), Phase::Completed) => with_stamp(stamp, "search: ", query),
            (Item::Plan(items), _) if *items != self.last_plan => {
                self.last_plan.clone_from(items);
                let mut text = format!("{stamp} plan\n");
                for item in items {
                    let mark = if item.completed { 'x' } else { ' ' };
                    let _ = writeln!(text, "    [{mark}] {}", item.text);
                }
                text
            }
            (Item::Warning(message), _) => with_stamp(stamp, "warning: ", message),
            (Item::UnknownType(what), Phase::Completed) => {
                with_stamp(stamp, "codex did something unknown: ", what)
            }
            _ => String::new(),
        }
    }

    /// Returns the text of a line of stderr; empty for blank lines and those in [`NOISE`].
    pub(crate) fn render_stderr_line(line: &Line) -> String {
        let text = match line {
            Line::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Line::Truncated { head, dropped_bytes, .. } => {
                format!(
                    "{} [… {dropped_bytes} bytes …]",
                    common::text_format::truncate(&String::from_utf8_lossy(head), MAX_TEXT)
                )
            }
        };
        if text.trim().is_empty() || NOISE.contains(&text.trim()) {
            String::new()
        } else {
            format!("{text}\n")
        }
    }
}

/// Returns a text with a time stamp before its first line; the other lines are indented.
fn with_stamp(stamp: &str, prefix: &str, text: &str) -> String {
    let text = shorten_text(text.trim_end(), MAX_TEXT);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let mut out = format!("{stamp} {prefix}{first}\n");
    indent(&mut out, rest);
    out
}

fn indent(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "    {line}");
    }
}

/// Shortens a text: returns its beginning and its end, with the size of the gap between them.
fn shorten_text(text: &str, max_bytes: usize) -> String {
    head_and_tail(text, text.len() / 2, 0, max_bytes)
}

/// Shortens a text like [`shorten_text`]; `missing_bytes` bytes of it are already missing at offset `gap`.
fn head_and_tail(text: &str, gap: usize, missing_bytes: u64, max_bytes: usize) -> String {
    let (mut head, mut tail) = (gap, gap);
    if text.len() > max_bytes {
        head = gap.min(max_bytes / 2);
        tail = gap.max(text.len() - max_bytes / 2);
    } else if missing_bytes == 0 {
        return text.to_owned();
    }
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}\n… {} bytes …\n{}", &text[..head], (tail - head) as u64 + missing_bytes, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::event::parse;

    fn render(lines: &[&str]) -> String {
        let mut transcript = Transcript::default();
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let mut text = String::new();
        for (second, line) in (0..).zip(lines) {
            let event = parse(&Line::Whole(line.as_bytes().to_vec())).unwrap();
            text += &transcript.render_event(Duration::from_secs(second), at, &event);
        }
        text
    }

    #[test]
    fn the_log_of_a_worker_looks_like_a_terminal_session() {
        let text = render(&[
            r#"{"type":"item.started","item":{"id":"1","type":"command_execution","command":"/bin/bash -lc 'npm ci'","status":"in_progress"}}"#,
            r#"{"type":"item.completed","item":{"id":"1","type":"command_execution","command":"/bin/bash -lc 'npm ci'","aggregated_output":"a\nb\n","exit_code":1,"status":"failed"}}"#,
            r#"{"type":"item.completed","item":{"id":"2","type":"agent_message","text":"It failed.\nSorry."}}"#,
            r#"{"type":"item.completed","item":{"id":"3","type":"todo_list","items":[{"text":"one","completed":true}]}}"#,
            r#"{"type":"item.completed","item":{"id":"4","type":"file_change","changes":[{"path":"/w/x","kind":"add"}],"status":"completed"}}"#,
        ]);
        let expected = "03:04:05 $ npm ci\n    a\n    b\n    exit 1 after 1.0s\n03:04:05 It failed.\n    Sorry.\n\
                        03:04:05 plan\n    [x] one\n03:04:05 add /w/x\n";
        similar_asserts::assert_eq!(text, expected);
    }

    #[test]
    fn a_huge_output_shows_its_ends_and_the_size_of_the_gap() {
        let text = shorten_text(&format!("{}{}", "ä".repeat(20_000), "z".repeat(20_000)), MAX_OUTPUT);
        assert!(text.len() < MAX_OUTPUT + 100 && text.contains("… 43616 bytes …"), "{}", &text[8000..8300]);
    }

    #[test]
    fn both_ends_of_a_truncated_output_are_shown_with_the_size_of_the_gap() {
        let gap = |text: &str, at| head_and_tail(text, at, 1_000_000, MAX_OUTPUT);
        assert_eq!(gap("onelast", 3), "one\n… 1000000 bytes …\nlast");
        let text = gap(&format!("{}{}the cause", "a".repeat(30_000), "z".repeat(30_000)), 30_000);
        assert!(text.contains("… 1043625 bytes …") && text.ends_with("the cause"), "{}", &text[8000..8300]);
    }

    #[test]
    fn noise_on_stderr_is_dropped_and_the_rest_kept() {
        let line = |text: &str| Transcript::render_stderr_line(&Line::Whole(text.as_bytes().to_vec()));
        assert_eq!(line("Reading additional input from stdin..."), "");
        assert_eq!(line("ERROR x"), "ERROR x\n");
    }
}
