//! The closing text of a job: at most 12 lines, no control characters, nothing of the log.

use std::fmt::Write as _;

use crate::duration;
use crate::event::StepOutcome;
use crate::record::{JobRecord, State, Step};
use crate::text;

/// Steps that are listed; the others are counted.
const MAX_STEPS: usize = 4;
/// Lines of the worker's last words.
const MESSAGE_LINES: usize = 3;
/// Longest line, in bytes.
const LINE: usize = 200;

/// The summary of a job that has ended.
pub fn of(record: &JobRecord) -> String {
    let mut lines = vec![headline(record)];
    if let Some(error) = &record.error {
        let kind = serde_json::to_value(error.kind).ok();
        let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("failed").to_owned();
        lines.push(text::one_line(&format!("reason: {kind}: {}", text::printable(&error.message)), LINE));
    }
    lines.extend(steps(record));
    if let Some(message) = &record.message {
        let shown = message.lines().map(str::trim).filter(|line| !line.is_empty()).take(MESSAGE_LINES);
        lines.extend(shown.enumerate().map(|(i, line)| {
            let lead = if i == 0 { "said: " } else { "      " };
            format!("{lead}{}", text::one_line(line, LINE))
        }));
    }
    if let Some(facts) = facts(record) {
        lines.push(facts);
    }
    lines.push(format!("log: {}", text::printable(&record.log_path)));
    lines.join("\n")
}

fn headline(record: &JobRecord) -> String {
    let mut line = format!("{} {}", record.job, record.state.as_str());
    let began = record.started_at.unwrap_or(record.created_at);
    if let Some(ended) = record.finished_at {
        let ms = ended.duration_since(began).as_millis();
        let _ = write!(line, " after {}", duration::short(u64::try_from(ms).unwrap_or(0)));
    }
    if let Some(code) = record.exit_code.filter(|code| *code != 0 && record.state != State::Completed) {
        let _ = write!(line, " (exit code {code})");
    }
    line
}

fn steps(record: &JobRecord) -> Vec<String> {
    let shown: Vec<&Step> = record.steps.iter().filter(|step| step.elapsed_ms.is_some()).collect();
    let mut slowest = shown.clone();
    slowest.sort_by_key(|step| (step.outcome == Some(StepOutcome::Ok), std::cmp::Reverse(step.elapsed_ms)));
    let mut chosen: Vec<u32> = slowest.iter().take(MAX_STEPS).map(|step| step.n).collect();
    chosen.sort_unstable();
    let mut lines: Vec<String> = shown
        .iter()
        .filter(|step| chosen.contains(&step.n))
        .map(|step| {
            let mut line = format!(
                "step {} {} {}: {}",
                step.n,
                step.kind,
                duration::short(step.elapsed_ms.unwrap_or(0)),
                text::one_line(&step.title, 100)
            );
            match (step.outcome, step.exit_code) {
                (Some(StepOutcome::Failed), Some(code)) => {
                    let _ = write!(line, " (exit code {code})");
                }
                (Some(StepOutcome::Ok) | None, _) => {}
                (Some(StepOutcome::Failed), None) => line.push_str(" (failed)"),
                (Some(StepOutcome::Killed), _) => line.push_str(" (killed)"),
                (Some(StepOutcome::Unknown), _) => line.push_str(" (end not seen)"),
            }
            line
        })
        .collect();
    let hidden = shown.len().saturating_sub(lines.len());
    if let Some(last) = lines.last_mut().filter(|_| hidden > 0) {
        let _ = write!(last, "  (+{hidden} more steps)");
    }
    lines
}

/// Changed files, tokens, thread: whatever of it is known, on one line.
fn facts(record: &JobRecord) -> Option<String> {
    let mut facts = Vec::new();
    if let Some(changes) = record.changes {
        facts.push(format!(
            "{} files changed (+{} -{})",
            changes.files, changes.insertions, changes.deletions
        ));
    }
    if let Some(usage) = record.usage {
        facts.push(format!("tokens: {} in, {} out", usage.input_tokens, usage.output_tokens));
    }
    if let Some(cleanup) = record.cleanup.filter(|cleanup| cleanup.killed + cleanup.survivors > 0) {
        facts.push(format!("{} processes killed, {} left", cleanup.killed, cleanup.survivors));
    }
    if let Some(thread) = &record.thread_id {
        facts.push(format!("thread {}", text::one_line(thread, 60)));
    }
    (!facts.is_empty()).then(|| facts.join(" · "))
}
