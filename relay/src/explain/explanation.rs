//! Data of a job's explanation.

use common::event::FailureKind;
use common::ids::JobId;
use common::record::State;
use common::step::Step;
use jiff::Timestamp;
use serde::Serialize;

/// Explanation of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub job: JobId,
    /// State of the job.
    pub state: State,
    /// Time from its launch to its end, or to now, in milliseconds.
    pub total_ms: u64,
    /// Breakdown of that time, the largest share first. The shares add up to `total_ms`.
    pub time: Vec<TimeShare>,
    /// CPU time of its steps, in milliseconds, if it was measured.
    pub cpu_ms: Option<u64>,
    /// Time of network steps that was not spent on CPU, in milliseconds, for steps that were seen to wait on a socket.
    pub network_wait_ms: u64,
    /// Slowest steps, by time without sub-steps.
    pub slowest: Vec<SlowStep>,
    /// Cause of its failure.
    pub cause: Option<FailureCause>,
    /// Warning signs, oldest first.
    pub signs: Vec<WarningSign>,
    /// Advice.
    pub tries: Vec<String>,
    /// Path of the streamed log.
    pub log_path: String,
}

/// A part of the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeShare {
    /// Kind of step, `queued` or `other`.
    pub what: &'static str,
    /// Length, in milliseconds.
    pub ms: u64,
    /// Number of steps.
    pub steps: u32,
}

/// A slow step.
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
    /// Message of the error.
    pub message: String,
    /// Last lines of the check or setup that failed.
    pub output: Vec<String>,
    /// Step that failed.
    pub step: Option<Step>,
}

/// A warning sign that was seen before the job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarningSign {
    /// Time of the event.
    pub at: Timestamp,
    /// Type of the event.
    pub what: &'static str,
    /// Number of the step.
    pub step: Option<u32>,
    /// Description.
    pub text: String,
}

impl Explanation {
    /// Address that a process waited for, as named in the evidence.
    pub fn waited_for_address(&self) -> Option<&str> {
        let texts = self.cause.iter().map(|cause| cause.message.as_str());
        texts.chain(self.signs.iter().rev().map(|sign| sign.text.as_str())).find_map(|text| {
            let word = text.split_once("TCP ")?.1.split_whitespace().next()?;
            Some(word.trim_end_matches([',', ';', '.', ')'])).filter(|word| word.contains(':'))
        })
    }
}
