//! What is on the screen, and what keys and news make of it. Pure.
//!
//! ```text
//!            c                         y: cancel
//!  Browse ──────► Confirm ──any other key──► Browse
//!    │ /  ──────► Filter  ──enter, esc─────► Browse
//!    └ ?  ──────► Help    ──any key────────► Browse
//! ```

use common::ids::JobId;
use common::record::{JobRecord, State};

use super::keys::Action;
use crate::render::View;

/// Longest filter, in characters.
const FILTER: usize = 60;

/// What keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// They move.
    Browse,
    /// They are text.
    Filter,
    /// They answer whether this job is to be ended.
    Confirm(JobId),
    /// They close the help.
    Help,
}

/// What is shown of the selected job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    /// Nothing.
    Closed,
    /// Steps, plan, last words, error.
    Status,
    /// Its log.
    Log,
    /// Its events.
    Events,
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// End a job.
    Cancel(JobId),
    /// Give a job, or the step it is at, more time.
    Extend {
        /// Which job.
        job: JobId,
        /// Whether its step is meant.
        step: bool,
    },
    /// Read again: something else is looked at.
    Look,
    /// Draw everything anew.
    Redraw,
    /// Stop until `fg`.
    Suspend,
    /// End.
    Quit,
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct News {
    /// Every job, in the order of the list.
    pub(super) records: Vec<JobRecord>,
    /// The time, the relay, the queue.
    pub(super) view: View,
    /// The newest lines of the selected job's log or events, without control characters.
    pub(super) tail: Vec<String>,
    /// What to try, where the selected job failed.
    pub(super) tries: Vec<String>,
    /// Why the registry can't be read.
    pub(super) trouble: Option<String>,
}

/// The screen's content.
#[derive(Debug)]
pub(super) struct Model {
    /// What was read last.
    pub(super) news: News,
    /// The job that keys are for.
    pub(super) selected: Option<JobId>,
    /// What keys mean.
    pub(super) mode: Mode,
    /// What is shown of it.
    pub(super) pane: Pane,
    /// Only jobs with this text in them are listed.
    pub(super) filter: String,
    /// Lines that the pane's text was moved: down from its beginning, or up from the end of a log.
    pub(super) scroll: usize,
    /// What became of the last order.
    pub(super) note: Option<String>,
}

impl Model {
    /// The first screen.
    pub(super) fn new(news: News) -> Self {
        let mut model = Self {
            news,
            selected: None,
            mode: Mode::Browse,
            pane: Pane::Status,
            filter: String::new(),
            scroll: 0,
            note: None,
        };
        model.keep_selection();
        model
    }

    /// The jobs that pass the filter.
    pub(super) fn listed(&self) -> Vec<&JobRecord> {
        let wanted = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        let passes = |record: &&JobRecord| {
            has(&record.job.to_string())
                || has(record.state.as_str())
                || has(&record.prompt_summary)
                || record.step.as_ref().is_some_and(|step| has(&step.title) || has(step.kind.as_str()))
        };
        self.news.records.iter().filter(passes).collect()
    }

    /// The selected job's record.
    pub(super) fn record(&self) -> Option<&JobRecord> {
        self.news.records.iter().find(|record| Some(&record.job) == self.selected.as_ref())
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, news: News) {
        self.news = news;
        self.keep_selection();
    }

    /// Does what a key asks for.
    pub(super) fn act(&mut self, action: Action) -> Option<Effect> {
        self.note = None;
        match action {
            Action::Move(by) => self.select(|at, last| at.saturating_add_signed(by).min(last)),
            Action::First => self.select(|_, _| 0),
            Action::Last => self.select(|_, last| last),
            Action::Details => {
                let pane = if self.pane == Pane::Closed { Pane::Status } else { Pane::Closed };
                Some(self.open(pane))
            }
            Action::Log => Some(self.open(self.toggled(Pane::Log))),
            Action::Events => Some(self.open(self.toggled(Pane::Events))),
            Action::Scroll(by) => {
                // A log is read from its end.
                let by = if matches!(self.pane, Pane::Log | Pane::Events) { -by } else { by };
                self.scroll = self.scroll.saturating_add_signed(by).min(self.news.tail.len().max(100));
                None
            }
            Action::Back => self.back(),
            Action::Cancel => {
                let running = self.with_running(|record| Ok(record.job.clone()))?;
                self.mode = Mode::Confirm(running);
                None
            }
            Action::Yes => match std::mem::replace(&mut self.mode, Mode::Browse) {
                Mode::Confirm(job) => Some(Effect::Cancel(job)),
                _ => None,
            },
            Action::Extend => self.with_running(extension),
            Action::Help => {
                self.mode = Mode::Help;
                None
            }
            Action::Filter => {
                self.mode = Mode::Filter;
                None
            }
            Action::Type(c) => {
                if !c.is_control() && self.filter.chars().count() < FILTER {
                    self.filter.push(c);
                }
                Some(self.refilter())
            }
            Action::Erase => {
                self.filter.pop();
                Some(self.refilter())
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

    fn toggled(&self, pane: Pane) -> Pane {
        if self.pane == pane { Pane::Status } else { pane }
    }

    fn open(&mut self, pane: Pane) -> Effect {
        self.pane = pane;
        self.scroll = 0;
        Effect::Look
    }

    fn back(&mut self) -> Option<Effect> {
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Filter => {
                self.filter.clear();
                Some(self.refilter())
            }
            Mode::Confirm(job) => {
                self.note = Some(format!("{job} goes on"));
                None
            }
            Mode::Browse if matches!(self.pane, Pane::Log | Pane::Events) => Some(self.open(Pane::Status)),
            Mode::Browse if !self.filter.is_empty() => {
                self.filter.clear();
                Some(self.refilter())
            }
            Mode::Browse | Mode::Help => None,
        }
    }

    fn refilter(&mut self) -> Effect {
        self.keep_selection();
        Effect::Look
    }

    fn select(&mut self, place: impl Fn(usize, usize) -> usize) -> Option<Effect> {
        let jobs: Vec<&JobId> = self.listed().into_iter().map(|record| &record.job).collect();
        let last = jobs.len().checked_sub(1)?;
        let at = jobs.iter().position(|job| Some(*job) == self.selected.as_ref()).unwrap_or(0);
        let chosen = jobs.get(place(at, last)).map(|job| (*job).clone());
        if chosen != self.selected {
            self.selected = chosen;
            self.scroll = 0;
        }
        Some(Effect::Look)
    }

    /// A job that is listed no more gives the selection to the first that is.
    fn keep_selection(&mut self) {
        let listed = self.listed();
        if !listed.iter().any(|record| Some(&record.job) == self.selected.as_ref()) {
            self.selected = listed.first().map(|record| record.job.clone());
            self.scroll = 0;
        }
    }

    /// Refuses what can't be done to a job that has ended or is ending, in a note.
    fn with_running<T>(&mut self, order: impl Fn(&JobRecord) -> Result<T, String>) -> Option<T> {
        let record = self.record()?;
        let job = &record.job;
        let made = match record.state {
            state if state.is_final() => Err(format!("{job} has ended: {}", state.as_str())),
            State::Stopping => Err(format!("{job} is being ended already")),
            _ => order(record),
        };
        match made {
            Ok(made) => Some(made),
            Err(why) => {
                self.note = Some(why);
                None
            }
        }
    }
}

/// The limit of the step, where it has one, else that of the job.
#[expect(clippy::unnecessary_wraps, reason = "an order may be refused")]
fn extension(record: &JobRecord) -> Result<Effect, String> {
    let step = record.step.as_ref().is_some_and(|step| step.limit_ms.is_some());
    Ok(Effect::Extend { job: record.job.clone(), step })
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
