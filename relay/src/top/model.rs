//! Model of the screen: its content, and how keys and new data change that content. Without side effects.
//!
//! ```text
//!            c                         y: cancel
//!  Browse ──────► Confirm ──any other key──► Browse
//!    │ /  ──────► Filter  ──enter, esc─────► Browse
//!    └ ?  ──────► Help    ──any key────────► Browse
//! ```

use common::ids::JobId;
use common::record::{JobRecord, State};

use super::keys::{Action, Mode};
use crate::render::View;

/// Maximum length of the filter, in characters.
const MAX_FILTER: usize = 60;

/// Content of the pane that shows the selected job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Closed,
    /// Steps, plan, last message and error of the job.
    Status,
    Log,
    Events,
}

/// Side effect of an action, performed by the event loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Cancel(JobId),
    /// Extend the limit of a job, or of its current step.
    Extend {
        /// Job to extend.
        job: JobId,
        /// True for the limit of the job's current step.
        is_for_step: bool,
    },
    /// Read the data again, because the selection, pane or filter has changed.
    Reload,
    /// Redraw the whole screen.
    Redraw,
    /// Suspend `relay top` until `fg`.
    Suspend,
    Quit,
}

/// Data read from the registry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Update {
    /// Records of the newest jobs, in display order.
    pub(super) records: Vec<JobRecord>,
    /// Time, state of the relay, and queue, as the renderers need them.
    pub(super) view: View,
    /// The newest lines of the selected job's log or events, without control characters.
    pub(super) newest_log_lines: Vec<String>,
    /// Advice, if the selected job failed.
    pub(super) advice: Vec<String>,
    /// Reason why the registry or the selected job's log could not be read.
    pub(super) error: Option<String>,
}

/// Content of the screen.
#[derive(Debug)]
pub(super) struct Model {
    /// Data that was read last.
    pub(super) update: Update,
    pub(super) selected_job: Option<JobId>,
    /// Input mode.
    pub(super) mode: Mode,
    /// Content of the pane.
    pub(super) pane: Pane,
    /// Text that listed jobs must contain.
    pub(super) filter: String,
    /// Number of lines by which the pane's text is scrolled: down from its beginning, or up from the end of a log.
    pub(super) scroll: usize,
    /// Answer to the last request, for the last line of the screen.
    pub(super) note: Option<String>,
}

impl Model {
    /// Creates the model of the first screen.
    pub(super) fn new(update: Update) -> Self {
        let mut model = Self {
            update,
            selected_job: None,
            mode: Mode::Browse,
            pane: Pane::Status,
            filter: String::new(),
            scroll: 0,
            note: None,
        };
        model.keep_selection();
        model
    }

    /// Returns the records of the jobs that pass the filter.
    pub(super) fn listed_records(&self) -> Vec<&JobRecord> {
        let filter = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&filter);
        let passes = |record: &&JobRecord| {
            has(&record.job.to_string())
                || has(record.state.as_str())
                || has(&record.prompt_summary)
                || record.step.as_ref().is_some_and(|step| has(&step.title) || has(step.kind.as_str()))
        };
        self.update.records.iter().filter(passes).collect()
    }

    pub(super) fn selected_record(&self) -> Option<&JobRecord> {
        self.update.records.iter().find(|record| Some(&record.job) == self.selected_job.as_ref())
    }

    /// Replaces the data.
    pub(super) fn update(&mut self, update: Update) {
        self.update = update;
        self.keep_selection();
    }

    /// Performs the action of a key, except for the returned side effect.
    pub(super) fn apply(&mut self, action: Action) -> Option<Effect> {
        self.note = None;
        match action {
            Action::Move(by) => self.move_selection(|at, last| at.saturating_add_signed(by).min(last)),
            Action::First => self.move_selection(|_, _| 0),
            Action::Last => self.move_selection(|_, last| last),
            Action::Details => {
                let pane = if self.pane == Pane::Closed { Pane::Status } else { Pane::Closed };
                Some(self.open_pane(pane))
            }
            Action::Log => Some(self.open_pane(self.toggled_pane(Pane::Log))),
            Action::Events => Some(self.open_pane(self.toggled_pane(Pane::Events))),
            Action::Scroll(by) => {
                // A log is scrolled up from its end.
                let by = if matches!(self.pane, Pane::Log | Pane::Events) { -by } else { by };
                self.scroll =
                    self.scroll.saturating_add_signed(by).min(self.update.newest_log_lines.len().max(100));
                None
            }
            Action::Back => self.go_back(),
            Action::Cancel => {
                let job = self.request_for_selected_job(|record| Ok(record.job.clone()))?;
                self.mode = Mode::Confirm(job);
                None
            }
            Action::Yes => match std::mem::replace(&mut self.mode, Mode::Browse) {
                Mode::Confirm(job) => Some(Effect::Cancel(job)),
                _ => None,
            },
            Action::Extend => self.request_for_selected_job(extension_effect),
            Action::Help => {
                self.mode = Mode::Help;
                None
            }
            Action::Filter => {
                self.mode = Mode::Filter;
                None
            }
            Action::Type(c) => {
                if !c.is_control() && self.filter.chars().count() < MAX_FILTER {
                    self.filter.push(c);
                }
                Some(self.apply_filter())
            }
            Action::Erase => {
                self.filter.pop();
                Some(self.apply_filter())
            }
            Action::Accept => {
                self.mode = Mode::Browse;
                None
            }
            Action::Redraw => Some(Effect::Redraw),
            Action::Suspend => Some(Effect::Suspend),
            Action::Quit => Some(Effect::Quit),
        }
    }

    fn toggled_pane(&self, pane: Pane) -> Pane {
        if self.pane == pane { Pane::Status } else { pane }
    }

    fn open_pane(&mut self, pane: Pane) -> Effect {
        self.pane = pane;
        self.scroll = 0;
        Effect::Reload
    }

    fn go_back(&mut self) -> Option<Effect> {
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Filter => {
                self.filter.clear();
                Some(self.apply_filter())
            }
            Mode::Confirm(job) => {
                self.note = Some(format!("{job} goes on"));
                None
            }
            Mode::Browse if matches!(self.pane, Pane::Log | Pane::Events) => {
                Some(self.open_pane(Pane::Status))
            }
            Mode::Browse if !self.filter.is_empty() => {
                self.filter.clear();
                Some(self.apply_filter())
            }
            Mode::Browse | Mode::Help => None,
        }
    }

    fn apply_filter(&mut self) -> Effect {
        self.keep_selection();
        Effect::Reload
    }

    fn move_selection(&mut self, target: impl Fn(usize, usize) -> usize) -> Option<Effect> {
        let jobs: Vec<&JobId> = self.listed_records().into_iter().map(|record| &record.job).collect();
        let last = jobs.len().checked_sub(1)?;
        let at = jobs.iter().position(|job| Some(*job) == self.selected_job.as_ref()).unwrap_or(0);
        let new_selection = jobs.get(target(at, last)).map(|job| (*job).clone());
        if new_selection != self.selected_job {
            self.selected_job = new_selection;
            self.scroll = 0;
        }
        Some(Effect::Reload)
    }

    /// Moves the selection to the first listed job if the selected one is no longer listed.
    fn keep_selection(&mut self) {
        let listed = self.listed_records();
        if !listed.iter().any(|record| Some(&record.job) == self.selected_job.as_ref()) {
            self.selected_job = listed.first().map(|record| record.job.clone());
            self.scroll = 0;
        }
    }

    /// Builds a request for the selected job. If the job has ended or is ending, refuses with a note.
    fn request_for_selected_job<T>(
        &mut self,
        request: impl Fn(&JobRecord) -> Result<T, String>,
    ) -> Option<T> {
        let record = self.selected_record()?;
        let job = &record.job;
        let result = match record.state {
            state if state.is_final() => Err(format!("{job} has ended: {}", state.as_str())),
            State::Stopping => Err(format!("{job} is being ended already")),
            _ => request(record),
        };
        match result {
            Ok(result) => Some(result),
            Err(reason) => {
                self.note = Some(reason);
                None
            }
        }
    }
}

/// Returns the effect that extends the limit of the current step if the step has one, else the limit of the job.
#[expect(clippy::unnecessary_wraps, reason = "`request_for_selected_job` expects a function that may refuse")]
fn extension_effect(record: &JobRecord) -> Result<Effect, String> {
    let is_for_step = record.step.as_ref().is_some_and(|step| step.limit_ms.is_some());
    Ok(Effect::Extend { job: record.job.clone(), is_for_step })
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub(super) mod tests;
