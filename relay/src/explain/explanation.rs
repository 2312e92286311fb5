//! Data of the explanation of a job.

use common::event::FailureKind;
use common::ids::JobId;
use common::record::State;
use common::step::Step;
use jiff::Timestamp;
use serde::Serialize;

/// Explanation of a job's duration or failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub job: JobId,
    /// State of the job.
    pub state: State,
    /// Time from the job's launch to its end, or to now, in milliseconds.
    pub total_ms: u64,
    /// Breakdown of the total time, the largest share first. The shares add up to `total_ms`.
    pub time: Vec<TimeShare>,
    /// CPU time of the job's steps, in milliseconds, if it was measured.
    pub cpu_ms: Option<u64>,
    /// Time of network steps that was not spent on CPU, in milliseconds, for steps that were seen to wait on a socket.
    pub network_wait_ms: u64,
    /// Slowest steps, by time without sub-steps.
    pub slowest: Vec<SlowStep>,
    /// Cause of the job's failure.
    pub cause: Option<FailureCause>,
    /// Warning signs, oldest first.
    pub signs: Vec<WarningSign>,
    /// Lines of advice: what to try.
    pub tries: Vec<String>,
    /// Path of the job's log.
    pub log_path: String,
}

/// Share of a job's time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeShare {
    /// Use of the time: kind of step, `queued`, `held` or `other`.
    pub what: &'static str,
    /// Length of the share, in milliseconds.
    pub ms: u64,
    /// Number of steps; 0 if the share is no kind of step.
    pub steps: u32,
}

/// Slow step of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowStep {
    /// Run time without sub-steps, in milliseconds.
    pub own_ms: u64,
    /// CPU time without sub-steps, in milliseconds.
    pub own_cpu_ms: u64,
    pub step: Step,
}

/// Cause of a job's failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureCause {
    pub kind: FailureKind,
    /// Message of the job's error.
    pub message: String,
    /// Last lines of the check or setup that failed.
    pub output: Vec<String>,
    /// Step that failed.
    pub step: Option<Step>,
}

/// Warning sign in the event log of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarningSign {
    /// Time of the event that is the sign.
    pub at: Timestamp,
    /// Type of the event: `stalled`, `interrupted`, `warning`, `link_lost` or `folder_shared`.
    pub what: &'static str,
    /// Number of the step that the sign belongs to.
    pub step: Option<u32>,
    /// Description of the sign.
    pub text: String,
}

impl Explanation {
    /// Returns the address that a process waited for, as named in the evidence.
    pub fn waited_for_address(&self) -> Option<&str> {
        let texts = self.cause.iter().map(|cause| cause.message.as_str());
        texts.chain(self.signs.iter().rev().map(|sign| sign.text.as_str())).find_map(|text| {
            let word = text.split_once("TCP ")?.1.split_whitespace().next()?;
            Some(word.trim_end_matches([',', ';', '.', ')'])).filter(|word| word.contains(':'))
        })
    }
}
