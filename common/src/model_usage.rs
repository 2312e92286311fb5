//! Use of the model by a job whose requests go through the relay, and problems of the account with the model.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure_kind::FailureKind;
use crate::usage::Usage;

/// Tokens of a job, as the relay counts them in the model's answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsage {
    /// Tokens of all answers of the job so far.
    pub usage: Usage,
    /// Number of answers with token counts.
    pub answers: u64,
    /// Number of answers without token counts: interrupted, failed, or of a server that sends none.
    pub unmetered: u64,
    /// Cost of the answers whose price is known, in millionths of a US dollar; `None` without such an answer.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    /// Number of answers of models whose price is not known.
    #[serde(default)]
    pub unpriced: u64,
    /// Tokens of the answers without counts, estimated from the sizes of request and answer. Only the budget has them.
    #[serde(default)]
    pub estimated_tokens: u64,
    /// Cost of the estimated tokens, in millionths of a US dollar.
    #[serde(default)]
    pub estimated_cost_micros: u64,
}

/// Problem of the account with the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelProblem {
    /// Kind of the problem.
    pub kind: FailureKind,
    /// Words of the model's server, one line.
    pub message: String,
    /// Instant at which a limit ends, if the server says so.
    pub resets_at: Option<Timestamp>,
}

impl ModelProblem {
    /// Describes the problem for display, such as `usage_limit until 2026-11-30T15:35:00Z: used up`.
    pub fn describe(&self) -> String {
        let kind: &str = self.kind.into();
        let until = self.resets_at.map(|at| format!(" until {at}")).unwrap_or_default();
        format!("{kind}{until}: {}", self.message)
    }
}
