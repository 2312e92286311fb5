//! One job, in at most 30 lines.

use common::duration;
use common::event::FailureKind;
use common::record::{JobRecord, Link, SCHEMA, State};
use common::step::Step;
use common::text;
use jiff::Timestamp;

use super::health::{self, Word};
use super::labeled_rows::{LabeledRows, MAX_ROW};
use super::{View, steps, width};
use crate::failure_text::failure_kind;
use crate::machine_text;
use crate::plural;
use crate::times::{ago, between, clock};

/// Maximum number of steps listed: the newest.
const MAX_STEPS: usize = 8;
/// Maximum number of lines for the worker's last words, warnings and the machine together; one of them is reserved for the
/// warnings.
const MAX_MESSAGE_LINES: usize = 6;
/// Maximum number of warnings listed of a completed job: the newest.
const MAX_WARNINGS: usize = 3;
/// Maximum length of the health, in bytes: the reason why a job is queued is the longest.
const MAX_HEALTH: usize = 320;
/// Maximum width of the bar that shows a step's time and limit, in columns.
const BAR_WIDTH: usize = 40;

/// Builds the output of `relay status JOB`. Every kind of row appears at most once; [`MAX_STEPS`] and
/// [`MAX_MESSAGE_LINES`] bound the two that take several lines: 30 lines if all were present.
pub fn block(record: &JobRecord, view: &View) -> String {
    let mut rows = LabeledRows::new(view, headline(record, view));
    rows.worker_text("task", &record.prompt_summary);
    rows.worker_text("workspace", &place(record));
    rows.add("times", &times(record, view));
    if record.state.is_final() {
        rows.steps(record);
        rows.words(record);
        rows.end(record);
    } else {
        rows.present(record);
        rows.steps(record);
        rows.words(record);
    }
    rows.facts(record);
    if let Some(delivery) = &view.delivery {
        rows.alarm("delivery", delivery);
    }
    rows.worker_text("log", &record.log_path);
    if record.schema > SCHEMA {
        rows.note(format!(
            "written by a newer relay (schema {}): this version does not change it",
            record.schema
        ));
    }
    rows.finish()
}

/// Known duration of the job, in milliseconds: since its start, or since its launch if it has not started.
pub fn elapsed(record: &JobRecord, view: &View) -> u64 {
    let known_until = match record.state {
        state if state != State::Queued && !view.relay.is_heard() => record.last_event_at,
        _ => view.now,
    };
    between(record.started_at.unwrap_or(record.created_at), record.finished_at.unwrap_or(known_until))
}

/// State of the job in a few words: `running for 1m03s`, `failed after 2m10s`.
pub fn state(record: &JobRecord, view: &View) -> String {
    let word = if record.state.is_final() { "after" } else { "for" };
    format!("{} {word} {}", record.outcome(), duration::short(elapsed(record, view)))
}

fn headline(record: &JobRecord, view: &View) -> String {
    let state = match record.state {
        // The current state is unknown. (A queued job is still queued: only a relay could change that.)
        state if !state.is_final() && state != State::Queued && !view.relay.is_heard() => {
            format!("{} as of {}", state.as_str(), ago(record.last_event_at, view.now))
        }
        _ => state(record, view),
    };
    let ended = record.finished_at.map(|at| format!(" ({})", ago(at, view.now))).unwrap_or_default();
    format!("{} {}{ended}", record.job, view.paint.state(record.state, &state))
}

fn place(record: &JobRecord) -> String {
    let isolation = match record.isolation {
        Some(common::event::Isolation::Container) => ", isolation: container",
        Some(common::event::Isolation::None) => ", isolation: none",
        Some(common::event::Isolation::Sandbox) => ", isolation: sandbox",
        None => "",
    };
    format!("{} (engine {}{isolation})", record.workspace, record.engine)
}

fn times(record: &JobRecord, view: &View) -> String {
    let at = |at| clock(at, view.now, &view.zone);
    let mut times = vec![format!("launched {}", at(record.created_at))];
    times.extend(record.started_at.map(|started| format!("started {}", at(started))));
    let heard = record.last_event_at;
    times.push(match record.finished_at {
        Some(finished) => format!("ended {}", at(finished)),
        None => format!("last event {} ({})", at(heard), ago(heard, view.now)),
    });
    times.join(", ")
}

impl LabeledRows<'_> {
    /// Adds the current activity: link, step, and health.
    fn present(&mut self, record: &JobRecord) {
        let (view, health) = (self.view, health::health(record, self.view));
        if record.state == State::Queued {
            return self.add("waits", &health.rest);
        }
        let down = !view.relay.is_heard();
        match record.link {
            Some(Link::Lost) => {
                let since = ago(record.last_event_at, view.now);
                self.alarm("link", &format!("lost: last news {since}"));
            }
            Some(Link::Connected) if !down => self.add("link", "connected"),
            Some(Link::Connected) | None => {}
        }
        self.step(record, down || record.link == Some(Link::Lost), health.word);
        let text = text::one_line(&health.to_string(), MAX_HEALTH);
        self.add_row("health", &text, |part| view.paint.health(health.word, part));
    }

    /// Adds the innermost running step.
    fn step(&mut self, record: &JobRecord, blind: bool, word: Word) {
        let (view, Some(step)) = (self.view, &record.step) else { return };
        let around = steps::chain(&steps::around(record, step.n));
        let (n, kind, title) = (step.n, step.kind, &step.title);
        if blind {
            // The step may have ended long ago: its duration would be a guess.
            let began = clock(step.started_at, view.now, &view.zone);
            return self.worker_text("step", &format!("{n} {kind} since {began}: {title}{around}"));
        }
        let time = spent_of_limit(step.started_at, step.limit_ms, view);
        self.worker_text("step", &format!("{n} {kind} {time}: {title}{around}"));
        if let (Some(room), Some(near)) = (self.room(), health::nearest(record, view.now)) {
            let bar = width::bar(near.spent_ms, near.limit_ms, room.min(BAR_WIDTH));
            self.line("", &view.paint.health(word, &bar));
        }
    }

    fn steps(&mut self, record: &JobRecord) {
        let ended: Vec<&Step> = record.steps.iter().filter(|step| step.outcome.is_some()).collect();
        let room = if ended.len() > MAX_STEPS { MAX_STEPS - 1 } else { MAX_STEPS };
        let hidden = ended.len().saturating_sub(room);
        if hidden > 0 {
            self.add("steps", &format!("… {hidden} earlier"));
        }
        for (i, (depth, step)) in steps::tree(&ended[hidden..]).into_iter().enumerate() {
            let label = if i == 0 && hidden == 0 { "steps" } else { "" };
            self.ended_step(label, depth, step);
        }
        if !record.plan.is_empty() {
            let done = record.plan.iter().filter(|item| item.completed).count();
            let next = record.plan.iter().find(|item| !item.completed);
            let next = next.map(|item| format!(", next: {}", item.text)).unwrap_or_default();
            self.worker_text("plan", &format!("{done} of {} done{next}", record.plan.len()));
        }
    }

    /// Adds an ended step: on a terminal one line, with a mark in front.
    fn ended_step(&mut self, label: &str, depth: usize, step: &Step) {
        let line = text::one_line(&steps::line(step), MAX_ROW);
        let Some(room) = self.room() else {
            return self.line(label, &format!("{:indent$}{line}", "", indent = 2 * depth));
        };
        let (mark, state) = steps::mark(step);
        let line = width::fit(&line, room.saturating_sub(2 * depth + 2));
        let mark = self.view.paint.state(state, mark);
        self.line(label, &format!("{:indent$}{mark} {line}", "", indent = 2 * depth));
    }

    fn words(&mut self, record: &JobRecord) {
        let warnings = warnings(record);
        let said = record.message.as_deref().unwrap_or_default();
        let room = MAX_MESSAGE_LINES - warnings.len().max(1) - machine(record).iter().len();
        let lines = said.lines().filter(|line| !text::one_line(line, MAX_ROW).is_empty()).take(room);
        for (i, line) in lines.enumerate() {
            self.worker_text(if i == 0 { "said" } else { "" }, line);
        }
        for (i, warning) in warnings.iter().enumerate() {
            let label = if i == 0 { "warning" } else { "" };
            if record.state.is_final() {
                self.worker_text(label, warning);
            } else {
                self.alarm(label, warning);
            }
        }
        if !record.state.is_final() {
            self.machine(record);
        }
    }

    fn machine(&mut self, record: &JobRecord) {
        if let Some(machine) = machine(record) {
            self.add("machine", &machine);
        }
    }

    fn end(&mut self, record: &JobRecord) {
        if let Some(error) = &record.error {
            // Most messages begin with their step.
            let step = error.step.filter(|_| !error.message.starts_with("step "));
            let step = step.map(|n| format!(" in step {n}")).unwrap_or_default();
            let kind = failure_kind(record);
            self.alarm("error", &format!("{kind}{step}: {}", text::printable(&error.message)));
            self.machine(record);
        }
        if let Some(code) = record.exit_code {
            self.add("exit code", &code.to_string());
        }
        self.add("next", &health::next(record));
    }

    fn facts(&mut self, record: &JobRecord) {
        if let Some(usage) = record.usage {
            self.add(
                "usage",
                &format!(
                    "{} tokens in ({} cached), {} out ({} reasoning){}",
                    usage.input_tokens,
                    usage.cached_input_tokens,
                    usage.output_tokens,
                    usage.reasoning_output_tokens,
                    if record.is_resumed() { ", of the whole thread" } else { "" }
                ),
            );
        }
        if let Some(changes) = record.changes {
            let files = plural::count(changes.files.into(), "file", "files");
            let text = format!("{files} (+{} -{})", changes.insertions, changes.deletions);
            self.add("changes", &text);
        }
        // One row, whichever of the two is known.
        match (&record.thread_id, &record.model) {
            (Some(thread), Some(model)) => self.worker_text("thread", &format!("{thread} (model {model})")),
            (Some(thread), None) => self.worker_text("thread", thread),
            (None, Some(model)) => self.worker_text("model", model),
            (None, None) => {}
        }
        if let Some(cleanup) = record.cleanup {
            let killed = plural::count(cleanup.killed.into(), "process", "processes");
            self.add("cleanup", &format!("{killed} killed, {} left", cleanup.survivors));
        }
    }
}

/// Returns the warnings to show: the newest, and further ones once the job has completed.
fn warnings(record: &JobRecord) -> Vec<&str> {
    if record.state == State::Completed && record.warnings.count > 1 {
        return record.warnings.latest(MAX_WARNINGS).0.iter().map(String::as_str).collect();
    }
    // A step that stalled for a while and then ended well needs no attention.
    let is_past = steps::stalled(record).is_some_and(|(n, _)| steps::went_well(record, n));
    record.warning.as_deref().filter(|_| !is_past).into_iter().collect()
}

/// Describes the machine at the moment of a stall or of a kill for lack of memory, if that still matters.
fn machine(record: &JobRecord) -> Option<String> {
    let kind = record.error.as_ref().map(|error| error.kind);
    let matters = match kind {
        Some(kind) => matches!(kind, FailureKind::OomKilled | FailureKind::Stalled),
        None => steps::stalled(record).is_some_and(|(n, _)| !steps::went_well(record, n)),
    };
    record.vitals.as_ref().filter(|_| matters).map(machine_text::moment)
}

/// Closing text of a job that has ended.
pub fn summary(record: &JobRecord) -> String {
    // A record on disk may contain anything, so the guarantees of the fold do not apply.
    let summary = record.summary.clone().unwrap_or_else(|| common::summary::summarize(record));
    text::printable_lines(&summary)
}

/// `1m03s of 10m`
fn spent_of_limit(started_at: Timestamp, limit_ms: Option<u64>, view: &View) -> String {
    let limit = limit_ms.map(|ms| format!(" of {}", duration::limit(ms))).unwrap_or_default();
    format!("{}{limit}", duration::short(between(started_at, view.now)))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
