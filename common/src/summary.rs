//! The summary: the closing text of a job, at most 12 lines without control characters. It contains no output of
//! commands, except for the last lines of a failed check or setup command.

use std::fmt::Write as _;

use crate::duration;
use crate::event::{Changes, FailureKind, JobError, Resources, StepOutcome};
use crate::folder::describe_sharing;
use crate::ids::JobId;
use crate::record::{JobRecord, State};
use crate::step::Step;
use crate::{budget, refused_hosts, text_format};

/// Maximum number of steps in a summary. The other steps are only counted.
const MAX_STEPS: usize = 4;
/// Maximum number of lines of the worker's last message.
const MAX_MESSAGE_LINES: usize = 3;
/// Maximum number of output lines of a failed check or setup command. If there are any, the steps and the last message
/// get fewer lines ([`MAX_BESIDE_OUTPUT`]), so that everything fits into 12 lines.
const MAX_OUTPUT_LINES: usize = 4;
/// Maximum number of steps, and of lines of the last message, in a summary with output lines.
const MAX_BESIDE_OUTPUT: usize = 2;
/// Maximum number of warnings in the summary of a completed job, which has no line with the reason of a failure.
const MAX_WARNINGS: usize = 2;
/// Maximum length of a text in a line, in bytes. A lead or a count may be added; the path of the log is not cut.
const MAX_LINE: usize = 200;

/// Returns the summary of a job that has ended.
pub fn summarize(record: &JobRecord) -> String {
    let mut lines = vec![headline_text(record)];
    let reason = record.error.as_ref().map(reason_lines).unwrap_or_default();
    let has_output = reason.len() > 1;
    lines.extend(reason);
    lines.extend(warning_lines(record));
    lines.extend(step_lines(record, if has_output { MAX_BESIDE_OUTPUT } else { MAX_STEPS }));
    if let Some(message) = &record.message {
        let max_lines = if has_output { MAX_BESIDE_OUTPUT } else { MAX_MESSAGE_LINES };
        let shown = message.lines().map(str::trim).filter(|line| !line.is_empty()).take(max_lines);
        lines.extend(shown.enumerate().map(|(i, line)| {
            let lead = if i == 0 { "said: " } else { "      " };
            format!("{lead}{}", text_format::one_line(line, MAX_LINE))
        }));
    }
    if let Some(counts) = counts_line(record) {
        lines.push(counts);
    }
    lines.push(format!("log: {}", text_format::to_printable(&record.log_path)));
    lines.join("\n")
}

fn headline_text(record: &JobRecord) -> String {
    let mut line = format!("{} {}", record.job, record.describe_outcome());
    let began = record.started_at.unwrap_or(record.created_at);
    if let Some(ended) = record.finished_at {
        let ms = ended.duration_since(began).as_millis();
        let _ = write!(line, " after {}", duration::format_duration(u64::try_from(ms).unwrap_or(0)));
    }
    if let Some(code) = record.exit_code.filter(|code| *code != 0 && record.state != State::Completed) {
        let _ = write!(line, " (exit code {code})");
    }
    line
}

/// Returns the lines with the reason for a failure. The error message of a check or setup command contains the
/// command's output, joined to one line; here the output is split into lines again.
fn reason_lines(error: &JobError) -> Vec<String> {
    let kind = serde_json::to_value(error.kind).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("failed").to_owned();
    let (event, output) = match error.kind {
        FailureKind::CheckFailed | FailureKind::SetupFailed => split_output(&error.message),
        _ => (error.message.as_str(), Vec::new()),
    };
    let mut lines = vec![text_format::one_line(
        &format!("reason: {kind}: {}", text_format::to_printable(event)),
        MAX_LINE,
    )];
    let hidden = output.len().saturating_sub(MAX_OUTPUT_LINES);
    lines.extend(
        output[hidden..].iter().map(|line| format!("      | {}", text_format::one_line(line, MAX_LINE))),
    );
    lines
}

/// Returns the lines with the warnings of a completed job.
fn warning_lines(record: &JobRecord) -> Vec<String> {
    if record.state != State::Completed {
        return Vec::new();
    }
    let (shown, hidden) = record.warnings.latest(MAX_WARNINGS);
    let mut lines: Vec<String> = shown
        .iter()
        .map(|warning| {
            text_format::one_line(&format!("warning: {}", text_format::to_printable(warning)), MAX_LINE)
        })
        .collect();
    if let Some(last) = lines.last_mut().filter(|_| hidden > 0) {
        let _ = write!(last, "  (+{hidden} more)");
    }
    lines
}

/// Splits an error such as `check 'x' ended with exit code 1: one / two` into the event and the lines of output.
pub fn split_output(message: &str) -> (&str, Vec<&str>) {
    let Some(phrase_start) = message.find("' ended with ").or_else(|| message.find("' was ")) else {
        return (message, Vec::new());
    };
    let Some(colon) = message[phrase_start..].find(": ").map(|at| phrase_start + at) else {
        return (message, Vec::new());
    };
    (&message[..colon], message[colon + 2..].split(" / ").filter(|line| !line.trim().is_empty()).collect())
}

/// Formats the resource usage of a step: `cpu 12.3s, 240 MiB`.
pub fn format_resources(resources: &Resources) -> String {
    let memory = match resources.peak_memory / 1024 {
        kib @ 0..1024 => format!("{kib} KiB"),
        kib @ 1024..1_048_576 => format!("{} MiB", kib / 1024),
        kib => format!("{}.{} GiB", kib / 1_048_576, kib % 1_048_576 * 10 / 1_048_576),
    };
    format!("cpu {}, {memory}", duration::format_duration(resources.cpu_ms))
}

/// Formats the changed lines of a job, and the jobs whose changes they may include: `(+10 -2)`, or `(+10 -2; demo#2
/// worked in the same folder at the same time)`.
pub fn format_changed_lines(changes: Changes, shared_with: &[JobId]) -> String {
    let sharing = describe_sharing(shared_with).map(|text| format!("; {text}")).unwrap_or_default();
    format!("(+{} -{}{sharing})", changes.insertions, changes.deletions)
}

fn step_lines(record: &JobRecord, max_steps: usize) -> Vec<String> {
    let finished: Vec<&Step> = record.steps.iter().filter(|step| step.elapsed_ms.is_some()).collect();
    let mut important = finished.clone();
    let has_succeeded = |step: &Step| {
        matches!(step.outcome, Some(StepOutcome::Ok | StepOutcome::Unknown)) && !step.has_unseen_end()
    };
    important.sort_by_key(|step| (has_succeeded(step), std::cmp::Reverse(step.elapsed_ms)));
    let mut chosen: Vec<u32> = important.iter().take(max_steps).map(|step| step.n).collect();
    chosen.sort_unstable();
    let mut lines: Vec<String> =
        finished.iter().filter(|step| chosen.contains(&step.n)).map(|step| step_line(step)).collect();
    let hidden = finished.len().saturating_sub(lines.len());
    if let Some(last) = lines.last_mut().filter(|_| hidden > 0) {
        let _ = write!(last, "  (+{hidden} more steps)");
    }
    lines
}

fn step_line(step: &Step) -> String {
    let used =
        step.resources.as_ref().map(|used| format!(", {}", format_resources(used))).unwrap_or_default();
    let mut line = format!(
        "step {} {} {}{used}: {}",
        step.n,
        step.kind,
        duration::format_duration(step.elapsed_ms.unwrap_or(0)),
        text_format::one_line(&step.title, 100)
    );
    if let Some(parent) = step.parent {
        let _ = write!(line, " (in step {parent})");
    }
    match (step.outcome, step.exit_code) {
        (Some(StepOutcome::Failed), Some(code)) => {
            let _ = write!(line, " (exit code {code})");
        }
        (Some(StepOutcome::Failed), None) => line.push_str(" (failed)"),
        (Some(StepOutcome::Killed), _) => line.push_str(" (killed)"),
        (Some(StepOutcome::Unknown), _) if step.has_unseen_end() => {
            line.push_str(" (still running when the worker ended)");
        }
        (Some(StepOutcome::Ok | StepOutcome::Unknown) | None, _) => {}
    }
    line
}

/// Returns one line with the known facts of a job: result or changed files, tokens and cost, refused hosts, killed
/// processes, Codex thread.
fn counts_line(record: &JobRecord) -> Option<String> {
    let mut counts = Vec::new();
    if let Some(result) = &record.result {
        counts.push(format!("result {}", text_format::one_line(&result.describe(), MAX_LINE)));
    } else if let Some(changes) = record.changes {
        let files = if changes.files == 1 { "file" } else { "files" };
        let lines = format_changed_lines(changes, &record.shared_with);
        counts.push(format!("{} {files} changed {lines}", changes.files));
    }
    if let Some(usage) = record.usage {
        let total = if record.has_usage_of_thread() { " (thread total)" } else { "" };
        let cost = record.model_usage.and_then(|total| total.cost_micros);
        let cost = cost.map(|micros| format!(", {}", budget::format_cost(micros))).unwrap_or_default();
        counts.push(format!("tokens: {} in, {} out{total}{cost}", usage.input_tokens, usage.output_tokens));
    }
    if let Some(refused) = refused_hosts::describe_refused(&record.network_refused) {
        counts.push(format!("network {}", text_format::one_line(&refused, MAX_LINE)));
    }
    if let Some(cleanup) = record.cleanup.filter(|cleanup| cleanup.killed + cleanup.survivors > 0) {
        counts.push(format!("{} processes killed, {} left", cleanup.killed, cleanup.survivors));
    }
    if let Some(thread) = &record.thread_id {
        counts.push(format!("thread {}", text_format::one_line(thread, 60)));
    }
    (!counts.is_empty()).then(|| counts.join(" · "))
}
