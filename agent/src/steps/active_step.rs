//! An active step: its classification, its deadline and the state of its processes.

use std::sync::Arc;
use std::time::Duration;

use common::event::{EventBody, MAX_TITLE, StepOutcome};
use common::job::{Limits, StepKind};
use common::rule::OnLimit;
use common::{duration, text};

use super::diagnosis::Brief;
use super::model_wait::Silence;
use super::resource_usage::Meter;
use super::rules::Work;
use super::stall::StallWatch;
use super::timeout_error::Verdict;
use crate::deadline::{Action, Clock};

/// Location of a step's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    /// No processes: the model, an edit, a search.
    None,
    /// One of the commands below Codex, not yet matched to a process; looks at the process tree find it.
    Wanted { argv: Vec<String> },
    /// The tree below this process, whose start time is set once a look has seen it.
    Root { pid: u32, started: Option<u64> },
}

impl Tree {
    /// Returns the root process and its start time, once both are known.
    pub(super) fn root(&self) -> Option<(u32, u64)> {
        match self {
            &Self::Root { pid, started: Some(started) } => Some((pid, started)),
            _ => None,
        }
    }
}

/// Classification of a process, and the number of looks that have seen it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) argv: Arc<[String]>,
    pub(super) work: Option<Work>,
    pub(super) looks: u32,
}

impl Known {
    /// Returns true if the process fetches a program and then runs it.
    pub(super) fn fetches(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.fetches)
    }
}

/// An active step.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) n: u32,
    pub(super) kind: StepKind,
    pub(super) title: String,
    pub(super) parent: Option<u32>,
    pub(super) started: Duration,
    pub(super) clock: Clock,
    /// True for a command that counts as an install until the program that it fetches runs.
    pub(super) fetches: bool,
    pub(super) tree: Tree,
    pub(super) stall: StallWatch,
    /// Action on a stall; `Warn` is carried out once.
    pub(super) on_stall: Action,
    pub(super) stall_told: bool,
    /// True for a command of the job itself.
    pub(super) whole: bool,
    /// The verdict that interrupted the step while the job goes on.
    pub(super) interrupted: Option<Verdict>,
    pub(super) meter: Meter,
    /// Evidence about a model that sends nothing.
    pub(super) silence: Silence,
    /// Processes at the last look, for the evidence.
    pub(super) processes: Vec<Brief>,
}

impl Open {
    /// Begins a step.
    pub(super) fn new(
        now: Duration,
        n: u32,
        work: &Work,
        tree: Tree,
        limits: &Limits,
        on_limit: OnLimit,
    ) -> Self {
        let action = Action::from(work.on_limit.unwrap_or(on_limit));
        let limit_ms = work.limit_ms.unwrap_or_else(|| limits.step_ms(work.kind));
        let own = work.stall_ms.or_else(|| limits.stalls.get(&work.kind).copied());
        // A stall is a hang where the step waits only for the network; elsewhere it may be intended.
        let on_stall = if own.is_some() || work.kind.is_network() { action } else { Action::Warn };
        Self {
            n,
            kind: work.kind,
            title: text::one_line(&work.title, MAX_TITLE),
            parent: None,
            started: now,
            clock: Clock::new(now, limit_ms, action),
            fetches: work.fetches,
            tree,
            stall: StallWatch::new(own.unwrap_or(limits.stall_ms)),
            on_stall,
            stall_told: false,
            whole: false,
            interrupted: None,
            meter: Meter::default(),
            silence: Silence::default(),
            processes: Vec::new(),
        }
    }

    /// Returns the event that starts the step.
    pub(super) fn began(&self) -> EventBody {
        EventBody::StepStarted {
            n: self.n,
            kind: self.kind,
            title: self.title.clone(),
            limit_ms: Some(self.clock.limit_ms()),
            parent: self.parent,
        }
    }

    /// Returns the event that ends the step.
    pub(super) fn ended(&self, now: Duration, outcome: StepOutcome, exit_code: Option<i32>) -> EventBody {
        let elapsed_ms = duration::millis(now.saturating_sub(self.started));
        EventBody::StepFinished {
            n: self.n,
            outcome,
            exit_code,
            elapsed_ms,
            resources: self.meter.resources(),
        }
    }

    /// Describes the step for messages.
    pub(super) fn described(&self) -> String {
        match self.kind {
            StepKind::Model => format!("step {} ({})", self.n, self.title),
            kind => format!("step {} ({kind}: {})", self.n, self.title),
        }
    }

    /// Returns true if received bytes must be counted: the step waits only for the network, or nothing else makes
    /// progress.
    pub(super) fn needs_traffic(&self) -> bool {
        self.kind.is_network() || self.stall.is_calm()
    }

    /// Pauses the step's deadline while a part of it has a deadline of its own.
    pub(super) fn hold(&mut self, now: Duration) {
        self.clock.hold(now);
        self.stall.restart();
    }
}
