//! Steps derived from Codex's events. Pure.
//!
//! ```text
//!  Start ──thread.started──► Model ◄──no open item──► open items
//!                              │                          │
//!                              └── turn.completed/failed ─┴──► turn over ──a new item──► Model
//! ```
//!
//! An item is open from its start to its end. If an item was open when the turn ended, a later report of the item's end
//! is ignored.
//!
//! While a turn runs and no item is open, the worker waits for the model. This wait is a step with a limit, like any
//! other step. Any new output of the model ends the wait and begins the next one. A retry notice does not end it,
//! because it only proves that Codex is alive.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use common::event::{EventBody, MAX_TEXT, PlanItem, StepOutcome};
use common::job::StepKind;
use common::text_format;
use jiff::Zoned;

use super::loop_detector::LoopDetector;
use super::step_table::{MODEL_TITLE, Steps};
use super::warning_dedup::WarningDedup;
use crate::codex::Turn;
use crate::codex::error_messages::{self, ModelError};
use crate::codex::event::{CodexEvent, Item, Phase};

/// Maximum number of open items. Codex opens a handful; only forged output has more.
const MAX_ITEMS: usize = 256;
/// Reason for a model's silence if Codex has not sent it a request yet.
const NO_TURN: &str = "codex has not started a turn";

/// Tracker of the progress of one `codex exec`.
#[derive(Debug)]
pub(crate) struct Tracker {
    pid: u32,
    start_step: Option<u32>,
    model_step: Option<u32>,
    step_by_item: HashMap<String, u32>,
    /// Items that were open when a turn ended.
    unfinished_items: HashSet<String>,
    /// True while a turn runs, and from the start of the thread on: the worker can only be waiting for the model then.
    is_in_turn: bool,
    last_turn: Option<Turn>,
    thread_id: Option<String>,
    last_message: Option<String>,
    plan: Vec<PlanItem>,
    warnings: WarningDedup,
    loop_detector: LoopDetector,
    unknown_message_count: u64,
}

impl Tracker {
    /// Begins the first step, the start of Codex, for the process `pid`.
    pub(crate) fn new(now: Duration, pid: u32, steps: &mut Steps) -> (Self, EventBody) {
        let (n, event) = steps.start_step(now, StepKind::Start, "codex exec");
        let tracker = Self {
            pid,
            start_step: Some(n),
            model_step: None,
            step_by_item: HashMap::new(),
            unfinished_items: HashSet::new(),
            is_in_turn: false,
            last_turn: None,
            thread_id: None,
            last_message: None,
            plan: Vec::new(),
            warnings: WarningDedup::default(),
            loop_detector: LoopDetector::default(),
            unknown_message_count: 0,
        };
        (tracker, event)
    }

    /// Returns the outcome of the last turn; `None` while a turn runs.
    pub(crate) fn last_turn(&self) -> Option<&Turn> {
        self.last_turn.as_ref()
    }

    /// Returns the last message of the worker.
    pub(crate) fn last_message(&self) -> Option<&str> {
        self.last_message.as_deref()
    }

    /// Returns the number of events and items that were not understood.
    pub(crate) fn unknown_message_count(&self) -> u64 {
        self.unknown_message_count
    }

    /// Handles an event; returns the resulting events of the job.
    pub(crate) fn take_event(
        &mut self,
        now: Duration,
        event: &CodexEvent,
        steps: &mut Steps,
    ) -> Vec<EventBody> {
        let mut events = Vec::new();
        match event {
            CodexEvent::ThreadStarted { id } => self.on_thread_started(now, id, steps, &mut events),
            CodexEvent::TurnStarted => {
                self.is_in_turn = true;
                self.last_turn = None;
                if let Some(n) = self.model_step {
                    steps.reset_model_wait(n);
                }
            }
            CodexEvent::TurnCompleted { usage } => {
                self.on_turn_end(now, Turn::Completed, steps, &mut events);
                events.extend(usage.map(EventBody::Usage));
            }
            CodexEvent::TurnFailed { message } => {
                self.on_turn_end(now, Turn::Failed(message.clone()), steps, &mut events);
            }
            CodexEvent::Error { message } => {
                let error = self.note_model_error(message, steps);
                // The hold or the failure of the job tells of a usage limit.
                if !error.is_usage_limit() {
                    self.warn(now, message, &error, &mut events);
                }
            }
            CodexEvent::Item { item: Item::Warning(message), .. } => {
                let error = self.note_model_error(message, steps);
                self.warn(now, message, &error, &mut events);
            }
            CodexEvent::Item { phase, id, item } => self.on_item(now, *phase, id, item, steps, &mut events),
            CodexEvent::Unknown { .. } => self.unknown_message_count += 1,
        }
        self.wait_for_model(now, steps, &mut events);
        events
    }

    /// Handles activity of the model that Codex's events don't show.
    pub(crate) fn on_activity(&mut self, now: Duration, steps: &mut Steps) {
        if let Some(n) = self.model_step {
            steps.restart_timer(now, n);
        }
    }

    /// Parses a retry notice or a warning of Codex, and records it for the wait for the model if it is about the model's
    /// server. It does not extend the wait.
    fn note_model_error(&self, message: &str, steps: &mut Steps) -> ModelError {
        // Notices contain no time of day, so the time passed here is unused.
        let error = error_messages::parse(message, &Zoned::default());
        if let Some(n) = self.model_step.filter(|_| error.concerns_model_server()) {
            steps.set_model_error(n, error.retry_notice());
        }
        error
    }

    /// Adds a warning, unless it was reported a moment ago.
    fn warn(&mut self, now: Duration, message: &str, error: &ModelError, events: &mut Vec<EventBody>) {
        if self.warnings.note_text(now, message) {
            let message = match error.retry {
                Some(_) => error.retry_notice(),
                None => error_messages::warning_text(message),
            };
            events.push(EventBody::Warning { message });
        }
    }

    fn on_thread_started(&mut self, now: Duration, id: &str, steps: &mut Steps, events: &mut Vec<EventBody>) {
        if self.thread_id.is_some() {
            return;
        }
        self.thread_id = Some(id.to_owned());
        if let Some(n) = self.start_step.take() {
            events.extend(steps.finish_step(now, n, StepOutcome::Ok, None));
        }
        events.push(EventBody::Started { pid: self.pid, thread_id: self.thread_id.clone() });
        if !self.is_in_turn && self.last_turn.is_none() {
            self.is_in_turn = true;
            self.wait_for_model(now, steps, events);
            if let Some(n) = self.model_step {
                steps.set_model_error(n, NO_TURN.to_owned());
            }
        }
    }

    fn on_turn_end(&mut self, now: Duration, turn: Turn, steps: &mut Steps, events: &mut Vec<EventBody>) {
        self.is_in_turn = false;
        let outcome = if turn == Turn::Completed { StepOutcome::Ok } else { StepOutcome::Failed };
        self.end_model_wait(now, outcome, steps, events);
        // Codex kills its running commands when it exits, and never reports their outcomes.
        let mut open_steps: Vec<u32> = self.step_by_item.values().copied().collect();
        open_steps.sort_unstable();
        self.unfinished_items.clear();
        self.unfinished_items.extend(self.step_by_item.drain().map(|(id, _)| id));
        events.extend(steps.unfinished_warning(&open_steps));
        events.extend(
            open_steps.into_iter().flat_map(|n| steps.finish_step(now, n, StepOutcome::Unknown, None)),
        );
        self.last_turn = Some(turn);
    }

    fn on_item(
        &mut self,
        now: Duration,
        phase: Phase,
        id: &str,
        item: &Item,
        steps: &mut Steps,
        events: &mut Vec<EventBody>,
    ) {
        if self.unfinished_items.contains(id) && phase != Phase::Started {
            return;
        }
        // The model sent something new, so the turn goes on, whatever was reported before.
        self.is_in_turn = true;
        self.last_turn = None;
        self.end_model_wait(now, StepOutcome::Ok, steps, events);
        match phase {
            Phase::Started | Phase::Updated => {
                if !self.step_by_item.contains_key(id)
                    && self.step_by_item.len() < MAX_ITEMS
                    && let Some((n, event)) = begin_item_step(now, item, steps)
                {
                    self.step_by_item.insert(id.to_owned(), n);
                    events.push(event);
                }
            }
            Phase::Completed => {
                // Codex reports only the end of a search, and of an item that ended before its start was reported.
                let n = self.step_by_item.remove(id).or_else(|| {
                    let (n, event) = begin_item_step(now, item, steps)?;
                    events.push(event);
                    Some(n)
                });
                let (outcome, exit_code) = item_outcome(item);
                if let Some(n) = n {
                    events.extend(steps.finish_step(now, n, outcome, exit_code));
                }
                if let Item::Command { command, .. } = item {
                    let title = || steps.rules().classify_line(command).title;
                    let loop_error =
                        self.loop_detector.on_command_end(command, title, outcome == StepOutcome::Failed);
                    events.extend(loop_error.and_then(|message| steps.report_loop(n, message)));
                }
            }
        }
        self.emit_item(phase, item, events);
    }

    /// Emits the events of an item other than those of its step.
    fn emit_item(&mut self, phase: Phase, item: &Item, events: &mut Vec<EventBody>) {
        match item {
            Item::Message(message) if phase == Phase::Completed => {
                self.last_message = Some(message.clone());
                events.push(EventBody::Message { text: text_format::truncate(message, MAX_TEXT) });
            }
            Item::Files { files, failed: false } if phase == Phase::Completed => {
                self.loop_detector.reset();
                events.push(EventBody::FileChange { files: files.clone() });
            }
            // Codex repeats the plan at the end of its turn.
            Item::Plan(items) if *items != self.plan => {
                self.plan.clone_from(items);
                events.push(EventBody::Plan { items: items.clone() });
            }
            Item::UnknownType(_) => self.unknown_message_count += 1,
            _ => {}
        }
    }

    fn wait_for_model(&mut self, now: Duration, steps: &mut Steps, events: &mut Vec<EventBody>) {
        if self.is_in_turn && self.step_by_item.is_empty() && self.model_step.is_none() {
            let (n, event) = steps.start_step(now, StepKind::Model, MODEL_TITLE);
            self.model_step = Some(n);
            events.push(event);
        }
    }

    fn end_model_wait(
        &mut self,
        now: Duration,
        outcome: StepOutcome,
        steps: &mut Steps,
        events: &mut Vec<EventBody>,
    ) {
        if let Some(n) = self.model_step.take() {
            events.extend(steps.finish_step(now, n, outcome, None));
        }
    }
}

fn begin_item_step(now: Duration, item: &Item, steps: &mut Steps) -> Option<(u32, EventBody)> {
    match item {
        Item::Command { command, .. } => Some(steps.start_command_step(now, command)),
        Item::Files { files, .. } => {
            let names: Vec<&str> = files.iter().take(5).map(|file| file.path.as_str()).collect();
            Some(steps.start_step(now, StepKind::Edit, &names.join(", ")))
        }
        Item::Tool { name, .. } => Some(steps.start_step(now, StepKind::Tool, name)),
        Item::Search(query) => Some(steps.start_step(now, StepKind::Search, query)),
        Item::Reasoning(_) | Item::Message(_) | Item::Plan(_) | Item::Warning(_) | Item::UnknownType(_) => {
            None
        }
    }
}

fn item_outcome(item: &Item) -> (StepOutcome, Option<i32>) {
    match item {
        Item::Command { exit_code: Some(0), failed: false, .. } => (StepOutcome::Ok, Some(0)),
        Item::Command { exit_code: None, failed: false, .. } => (StepOutcome::Unknown, None),
        Item::Command { exit_code, .. } => (StepOutcome::Failed, *exit_code),
        Item::Files { failed: true, .. } | Item::Tool { failed: true, .. } => (StepOutcome::Failed, None),
        _ => (StepOutcome::Ok, None),
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
