//! Reports of jobs that the account can't use the model, found in their records. Pure.

use common::event::FailureKind;
use common::hold::{Hold, OnQuota};
use common::job::Runner;
use common::model_usage::ModelProblem;
use common::record::JobRecord;
use jiff::Timestamp;

/// Facts of a job that matter for holds.
#[derive(Debug, Default)]
pub(super) struct AccountUse {
    /// True if the job uses the model and waits for the end of a limit.
    pub(super) waits: bool,
    /// Newest hold that is recorded, or is being recorded.
    pub(super) held: Option<Hold>,
    /// Newest problem that the gateway recorded.
    pub(super) problem: Option<ModelProblem>,
    /// Number of the model's answers that the gateway has counted.
    pub(super) answers: u64,
    /// True if the model answered another job while the queue was held because of this one.
    pub(super) is_disproved: bool,
}

impl AccountUse {
    pub(super) fn of_record(record: &JobRecord) -> Self {
        Self {
            waits: record.runner == Runner::Codex && record.on_quota == OnQuota::Wait,
            held: record.held.clone(),
            problem: record.model_problem.clone(),
            answers: count_answers(record),
            is_disproved: false,
        }
    }
}

/// Returns the number of answers in a record.
pub(super) fn count_answers(record: &JobRecord) -> u64 {
    record.model_usage.map_or(0, |used| used.answers)
}

/// Source of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Codex's words, which a worker can forge.
    Codex,
    /// An answer of the model's server that the gateway has seen. It may be older than the report.
    Gateway,
    /// A new answer of the model's server that the gateway has seen.
    NewAnswer,
}

impl Source {
    fn of_record(record: &JobRecord, kind: FailureKind, is_new_problem: bool) -> Self {
        match &record.model_problem {
            Some(problem) if problem.kind == kind && is_new_problem => Self::NewAnswer,
            Some(problem) if problem.kind == kind => Self::Gateway,
            _ => Self::Codex,
        }
    }
}

/// Report of a job that the account can't use the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) kind: FailureKind,
    pub(super) message: String,
    pub(super) ends_at: Option<Timestamp>,
    pub(super) source: Source,
}

impl Report {
    /// Returns the report in a record. `is_new_hold` and `is_new_problem` are true for facts that an earlier record of
    /// the job did not have.
    pub(super) fn of_record(record: &JobRecord, is_new_hold: bool, is_new_problem: bool) -> Option<Self> {
        // Command lines use another account.
        let record = (record.runner == Runner::Codex).then_some(record)?;
        let problem = record.model_problem.as_ref();
        let limit = problem.filter(|problem| problem.kind == FailureKind::UsageLimit);
        let resets_at = limit.and_then(|limit| limit.resets_at);
        let source = |kind| Source::of_record(record, kind, is_new_problem);
        if let Some(error) = record.error.as_ref().filter(|_| record.state.is_final()) {
            // Only credentials that the relay holds are those of all jobs.
            let is_shared = |problem: &ModelProblem| problem.kind == FailureKind::Auth;
            let is_report = match error.kind {
                FailureKind::UsageLimit => true,
                FailureKind::Auth => problem.is_some_and(is_shared),
                _ => false,
            };
            let (kind, message) = (error.kind, error.message.clone());
            return is_report.then_some(Self { kind, message, ends_at: resets_at, source: source(kind) });
        }
        if let Some(hold) = record.held.as_ref().filter(|_| is_new_hold) {
            let (kind, message) = (hold.kind, hold.message.clone());
            let ends_at = resets_at.or(hold.until);
            return Some(Self { kind, message, ends_at, source: source(kind) });
        }
        let limit = limit.filter(|_| is_new_problem && !record.state.is_final())?;
        let (message, ends_at) = (limit.message.clone(), limit.resets_at);
        Some(Self { kind: limit.kind, message, ends_at, source: Source::NewAnswer })
    }
}
