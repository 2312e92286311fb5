//! Text about one job, in at most 30 lines.

use common::budget;
use common::duration;
use common::event::FailureKind;
use common::model_usage::ModelUsage;
use common::record::{JobRecord, Link, SCHEMA_VERSION, State};
use common::step::Step;
use common::{refused_hosts, summary, text_format};
use jiff::Timestamp;

use super::health::{self, HealthWord};
use super::labeled_rows::{LabeledRows, MAX_ROW_BYTES};
use super::{View, steps, width};
use crate::failure_text::failure_kind;
use crate::machine_text;
use crate::plural;
use crate::times::{format_ago, format_clock, millis_between};

/// Maximum number of ended steps that are listed, the newest.
const MAX_STEPS: usize = 8;
/// Maximum number of lines for the worker's last message, the warnings and the machine together. One line is reserved
/// for the warnings.
const MAX_MESSAGE_LINES: usize = 6;
/// Maximum number of warnings that are listed for a completed job, the newest.
const MAX_WARNINGS: usize = 3;
/// Maximum length of the health sentence, in bytes. The longest one explains why a job is queued.
const MAX_HEALTH_BYTES: usize = 320;
/// Maximum width of the bar that shows a step's time and limit, in columns.
const BAR_WIDTH: usize = 40;

/// Builds the output of `relay status JOB`. Every kind of row appears at most once, and [`MAX_STEPS`] and
/// [`MAX_MESSAGE_LINES`] limit the two kinds with several lines: at most 30 lines.
pub fn render_status(record: &JobRecord, view: &View) -> String {
    let mut rows = LabeledRows::new(view, format_headline(record, view));
    rows.add_untrusted("task", &record.prompt_summary);
    rows.add_untrusted("workspace", &format_workspace(record));
    if let Some(group) = &record.group {
        rows.add("group", group.as_str());
    }
    rows.add("times", &format_times(record, view));
    if record.state.is_final() {
        rows.add_steps(record);
        rows.add_message_and_warnings(record);
        rows.add_outcome(record);
    } else {
        rows.add_current_activity(record);
        rows.add_steps(record);
        rows.add_message_and_warnings(record);
    }
    rows.add_counts(record);
    if let Some(delivery) = &view.delivery {
        rows.add_highlighted("delivery", delivery);
    }
    rows.add_untrusted("log", &record.log_path);
    if record.schema > SCHEMA_VERSION {
        rows.add_unlabeled(format!(
            "written by a newer relay (schema {}): this version does not change it",
            record.schema
        ));
    }
    rows.finish()
}

/// Returns the known duration of the job, in milliseconds: since its start, or since its launch if it has not started.
pub fn elapsed_ms(record: &JobRecord, view: &View) -> u64 {
    let known_until = match record.state {
        state if state != State::Queued && !view.relay.is_reporting() => record.last_event_at,
        _ => view.now,
    };
    millis_between(record.started_at.unwrap_or(record.created_at), record.finished_at.unwrap_or(known_until))
}

/// Returns the state of the job in a few words: `running for 1m03s`, `failed after 2m10s`.
pub fn state_text(record: &JobRecord, view: &View) -> String {
    let word = if record.state.is_final() { "after" } else { "for" };
    format!("{} {word} {}", record.describe_outcome(), duration::format_duration(elapsed_ms(record, view)))
}

fn format_headline(record: &JobRecord, view: &View) -> String {
    let state = match record.state {
        // Without a reporting relay the current state is unknown. Only a queued job is certainly still queued, because
        // only a relay could start it.
        state if !state.is_final() && state != State::Queued && !view.relay.is_reporting() => {
            format!("{} as of {}", state.as_str(), format_ago(record.last_event_at, view.now))
        }
        _ => state_text(record, view),
    };
    let age = record.finished_at.map(|at| format!(" ({})", format_ago(at, view.now))).unwrap_or_default();
    format!("{} {}{age}", record.job, view.paint.state(record.state, &state))
}

fn format_workspace(record: &JobRecord) -> String {
    let isolation = match record.isolation {
        Some(common::event::Isolation::Container) => ", isolation: container",
        Some(common::event::Isolation::None) => ", isolation: none",
        Some(common::event::Isolation::Sandbox) => ", isolation: sandbox",
        None => "",
    };
    format!("{} (engine {}{isolation})", record.workspace, record.engine)
}

fn format_times(record: &JobRecord, view: &View) -> String {
    let clock = |at| format_clock(at, view.now, &view.zone);
    let mut times = vec![format!("launched {}", clock(record.created_at))];
    times.extend(record.started_at.map(|started| format!("started {}", clock(started))));
    let last_event = record.last_event_at;
    times.push(match record.finished_at {
        Some(finished) => format!("ended {}", clock(finished)),
        None => format!("last event {} ({})", clock(last_event), format_ago(last_event, view.now)),
    });
    times.join(", ")
}

impl LabeledRows<'_> {
    /// Adds the current activity: link, step, and health.
    fn add_current_activity(&mut self, record: &JobRecord) {
        let (view, health) = (self.view, health::health(record, self.view));
        if record.state == State::Queued {
            return self.add("waits", &health.explanation);
        }
        let is_silent = !view.relay.is_reporting();
        match record.link {
            Some(Link::Lost) => {
                let since = format_ago(record.last_event_at, view.now);
                self.add_highlighted("link", &format!("lost: last event {since}"));
            }
            Some(Link::Connected) if !is_silent => self.add("link", "connected"),
            Some(Link::Connected) | None => {}
        }
        self.add_running_step(record, is_silent || record.link == Some(Link::Lost), health.word);
        let text = text_format::one_line(&health.to_string(), MAX_HEALTH_BYTES);
        self.add_row("health", &text, |part| view.paint.job_health(health.word, part));
    }

    fn add_running_step(&mut self, record: &JobRecord, is_outdated: bool, word: HealthWord) {
        let (view, Some(step)) = (self.view, &record.step) else { return };
        let enclosing = steps::format_enclosing(&steps::enclosing_steps(record, step.n));
        let (n, kind, title) = (step.n, step.kind, &step.title);
        if is_outdated {
            // The step may have ended long ago, so its duration is unknown.
            let started = format_clock(step.started_at, view.now, &view.zone);
            return self.add_untrusted("step", &format!("{n} {kind} since {started}: {title}{enclosing}"));
        }
        let time = format_time_and_limit(step.started_at, step.limit_ms, view);
        self.add_untrusted("step", &format!("{n} {kind} {time}: {title}{enclosing}"));
        if let (Some(columns), Some(bar_step)) =
            (self.text_width(), health::step_with_nearest_limit(record, view.now))
        {
            let bar = width::bar(bar_step.elapsed_ms, bar_step.limit_ms, columns.min(BAR_WIDTH));
            self.add_unstyled("", &view.paint.job_health(word, &bar));
        }
    }

    fn add_steps(&mut self, record: &JobRecord) {
        let ended: Vec<&Step> = record.steps.iter().filter(|step| step.outcome.is_some()).collect();
        let max_steps = if ended.len() > MAX_STEPS { MAX_STEPS - 1 } else { MAX_STEPS };
        let hidden = ended.len().saturating_sub(max_steps);
        if hidden > 0 {
            self.add("steps", &format!("… {hidden} earlier"));
        }
        for (i, (depth, step)) in steps::steps_as_tree(&ended[hidden..]).into_iter().enumerate() {
            let label = if i == 0 && hidden == 0 { "steps" } else { "" };
            self.add_ended_step(label, depth, step);
        }
        if !record.plan.is_empty() {
            let done = record.plan.iter().filter(|item| item.completed).count();
            let next = record.plan.iter().find(|item| !item.completed);
            let next = next.map(|item| format!(", next: {}", item.text)).unwrap_or_default();
            self.add_untrusted("plan", &format!("{done} of {} done{next}", record.plan.len()));
        }
    }

    /// Adds an ended step in one line. On a terminal, the line fits the width and has a mark in front.
    fn add_ended_step(&mut self, label: &str, depth: usize, step: &Step) {
        let line = text_format::one_line(&steps::format_step(step), MAX_ROW_BYTES);
        let Some(columns) = self.text_width() else {
            return self.add_unstyled(label, &format!("{:indent$}{line}", "", indent = 2 * depth));
        };
        let (mark, state) = steps::outcome_mark(step);
        let line = width::fit(&line, columns.saturating_sub(2 * depth + 2));
        let mark = self.view.paint.state(state, mark);
        self.add_unstyled(label, &format!("{:indent$}{mark} {line}", "", indent = 2 * depth));
    }

    fn add_message_and_warnings(&mut self, record: &JobRecord) {
        let warnings = shown_warnings(record);
        let message = record.message.as_deref().unwrap_or_default();
        let max_lines = MAX_MESSAGE_LINES - warnings.len().max(1) - machine_at_incident(record).iter().len();
        let lines = message
            .lines()
            .filter(|line| !text_format::one_line(line, MAX_ROW_BYTES).is_empty())
            .take(max_lines);
        for (i, line) in lines.enumerate() {
            self.add_untrusted(if i == 0 { "said" } else { "" }, line);
        }
        for (i, warning) in warnings.iter().enumerate() {
            let label = if i == 0 { "warning" } else { "" };
            if record.state.is_final() {
                self.add_untrusted(label, warning);
            } else {
                self.add_highlighted(label, warning);
            }
        }
        if !record.state.is_final() {
            self.add_machine(record);
        }
    }

    fn add_machine(&mut self, record: &JobRecord) {
        if let Some(machine) = machine_at_incident(record) {
            self.add("machine", &machine);
        }
    }

    fn add_outcome(&mut self, record: &JobRecord) {
        if let Some(error) = &record.error {
            // Most messages begin with the step that they are about.
            let step = error.step.filter(|_| !error.message.starts_with("step "));
            let step = step.map(|n| format!(" in step {n}")).unwrap_or_default();
            let kind = failure_kind(record);
            self.add_highlighted(
                "error",
                &format!("{kind}{step}: {}", text_format::to_printable(&error.message)),
            );
            self.add_machine(record);
        }
        if let Some(code) = record.exit_code {
            self.add("exit code", &code.to_string());
        }
        self.add("next", &health::next_action(record));
    }

    fn add_counts(&mut self, record: &JobRecord) {
        if let Some(problem) = record.model_problem.as_ref().filter(|_| !record.state.is_final()) {
            self.add_untrusted("model", &problem.describe());
        }
        if let Some(refused) = refused_hosts::describe_refused(&record.network_refused) {
            self.add_untrusted("network", &format!("{refused}; {}", refused_hosts::ALLOW_HINT));
        }
        if let Some(usage) = record.usage {
            let cost = record.model_usage.and_then(|total| total.cost_micros);
            let cost = cost.map(|cost| format!(", {}", budget::format_cost(cost))).unwrap_or_default();
            let uncounted = record.model_usage.map(|total| format_uncounted(&total)).unwrap_or_default();
            self.add(
                "usage",
                &format!(
                    "{} tokens in ({} cached), {} out ({} reasoning){}{cost}{uncounted}",
                    usage.input_tokens,
                    usage.cached_input_tokens,
                    usage.output_tokens,
                    usage.reasoning_output_tokens,
                    if record.has_usage_of_thread() { ", of the whole thread" } else { "" }
                ),
            );
        }
        if let Some(result) = &record.result {
            self.add_untrusted("result", &result.describe());
        } else if let Some(changes) = record.changes {
            let files = plural::format_count(changes.files.into(), "file", "files");
            let lines = summary::format_changed_lines(changes, &record.shared_with);
            self.add("changes", &format!("{files} {lines}"));
        }
        // One row for the thread and the model, as far as they are known.
        match (&record.thread_id, &record.model) {
            (Some(thread), Some(model)) => self.add_untrusted("thread", &format!("{thread} (model {model})")),
            (Some(thread), None) => self.add_untrusted("thread", thread),
            (None, Some(model)) => self.add_untrusted("model", model),
            (None, None) => {}
        }
        if let Some(cleanup) = record.cleanup {
            let killed = plural::format_count(cleanup.killed.into(), "process", "processes");
            self.add("cleanup", &format!("{killed} killed, {} left", cleanup.survivors));
        }
    }
}

/// Returns the warnings to show: the newest one, and for a completed job also some earlier ones.
/// Describes the answers whose tokens are not in the sums.
fn format_uncounted(total: &ModelUsage) -> String {
    if total.unmetered == 0 {
        return String::new();
    }
    let answers = plural::format_count(total.unmetered, "answer", "answers");
    format!(", {answers} without counts (about {} tokens)", total.estimated_tokens)
}

fn shown_warnings(record: &JobRecord) -> Vec<&str> {
    if record.state == State::Completed && record.warnings.count > 1 {
        return record.warnings.latest(MAX_WARNINGS).0.iter().map(String::as_str).collect();
    }
    // A step that stalled temporarily and then succeeded needs no attention.
    let is_past = steps::stalled_step(record).is_some_and(|(n, _)| steps::has_ended_well(record, n));
    record.warning.as_deref().filter(|_| !is_past).into_iter().collect()
}

/// Describes the machine at the moment of a stall or of a kill for lack of memory, if that still matters.
fn machine_at_incident(record: &JobRecord) -> Option<String> {
    let kind = record.error.as_ref().map(|error| error.kind);
    let is_relevant = match kind {
        Some(kind) => matches!(kind, FailureKind::OomKilled | FailureKind::Stalled),
        None => steps::stalled_step(record).is_some_and(|(n, _)| !steps::has_ended_well(record, n)),
    };
    record.vitals.as_ref().filter(|_| is_relevant).map(machine_text::describe_moment)
}

/// Returns the summary of a job that has ended.
pub fn summary_text(record: &JobRecord) -> String {
    // A record on disk may contain anything, so its texts may exceed the limits of a record that is built from a log.
    let summary = record.summary.clone().unwrap_or_else(|| summary::summarize(record));
    text_format::to_printable_lines(&summary)
}

/// Formats the time and the limit of a running step: `1m03s of 10m`.
fn format_time_and_limit(started_at: Timestamp, limit_ms: Option<u64>, view: &View) -> String {
    let limit = limit_ms.map(|ms| format!(" of {}", duration::format_limit(ms))).unwrap_or_default();
    format!("{}{limit}", duration::format_duration(millis_between(started_at, view.now)))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
