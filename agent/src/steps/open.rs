//! A step that runs: what it is, its clock, and what is known of its processes.

use std::sync::Arc;
use std::time::Duration;

use common::event::{EventBody, MAX_TITLE, StepOutcome};
use common::job::{Limits, StepKind};
use common::rule::OnLimit;
use common::{duration, text};

use super::evidence::Brief;
use super::meter::Meter;
use super::rules::Work;
use super::silence::Silence;
use super::stall::StallWatch;
use super::verdict::Verdict;
use crate::clock::{Action, Clock};

/// Where a step's processes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    /// It has none: the model, an edit, a search.
    None,
    /// One of the commands below Codex; which one is found out by looking.
    Wanted { argv: Vec<String> },
    /// Below this process, whose start is known once it was seen.
    Root { pid: u32, started: Option<u64> },
}

impl Tree {
    /// The process and its start, once both are known.
    pub(super) fn root(&self) -> Option<(u32, u64)> {
        match self {
            &Self::Root { pid, started: Some(started) } => Some((pid, started)),
            _ => None,
        }
    }
}

/// What a process was found to be, and for how many looks.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) argv: Arc<[String]>,
    pub(super) work: Option<Work>,
    pub(super) looks: u32,
}

impl Known {
    /// Whether it is one that fetches a program and then runs it.
    pub(super) fn fetches(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.fetches)
    }
}

/// A step that runs.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) n: u32,
    pub(super) kind: StepKind,
    pub(super) title: String,
    pub(super) parent: Option<u32>,
    pub(super) started: Duration,
    pub(super) clock: Clock,
    /// It is an install until the program runs that it fetches.
    pub(super) fetches: bool,
    pub(super) tree: Tree,
    pub(super) stall: StallWatch,
    /// What a stall does; `Warn` is done once.
    pub(super) on_stall: Action,
    pub(super) stall_told: bool,
    /// It is a command of the job itself.
    pub(super) whole: bool,
    /// It was ended while the job goes on, and why.
    pub(super) interrupted: Option<Verdict>,
    pub(super) meter: Meter,
    /// What is known about a model that is silent.
    pub(super) silence: Silence,
    /// Its processes at the last look, for the evidence.
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
        // Quiet is a hang where the network is all that is waited for; elsewhere it may be what was wanted.
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

    /// Its first event.
    pub(super) fn began(&self) -> EventBody {
        EventBody::StepStarted {
            n: self.n,
            kind: self.kind,
            title: self.title.clone(),
            limit_ms: Some(self.clock.limit_ms()),
            parent: self.parent,
        }
    }

    /// Its last event.
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

    /// How texts name it.
    pub(super) fn described(&self) -> String {
        match self.kind {
            StepKind::Model => format!("step {} ({})", self.n, self.title),
            kind => format!("step {} ({kind}: {})", self.n, self.title),
        }
    }

    /// Whether received bytes have to be counted: where the network is all that is waited for, and where nothing else moves.
    pub(super) fn needs_traffic(&self) -> bool {
        self.kind.is_network() || self.stall.is_calm()
    }

    /// A part of it has a clock of its own now.
    pub(super) fn hold(&mut self, now: Duration) {
        self.clock.hold(now);
        self.stall.restart();
    }
}
