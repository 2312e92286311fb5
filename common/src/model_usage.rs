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

impl ModelUsage {
    /// Returns the sum of this use and the growth of another one between two readings.
    #[must_use]
    pub fn add_difference(&self, before: &Self, after: &Self) -> Self {
        let plus = |sum: u64, before: u64, after: u64| sum.saturating_add(after.saturating_sub(before));
        let (sum, old, new) = (&self.usage, &before.usage, &after.usage);
        let (sum_cost, old_cost, new_cost) = (self.cost_micros, before.cost_micros, after.cost_micros);
        let cost = plus(sum_cost.unwrap_or(0), old_cost.unwrap_or(0), new_cost.unwrap_or(0));
        Self {
            usage: Usage {
                input_tokens: plus(sum.input_tokens, old.input_tokens, new.input_tokens),
                cached_input_tokens: plus(
                    sum.cached_input_tokens,
                    old.cached_input_tokens,
                    new.cached_input_tokens,
                ),
                output_tokens: plus(sum.output_tokens, old.output_tokens, new.output_tokens),
                reasoning_output_tokens: plus(
                    sum.reasoning_output_tokens,
                    old.reasoning_output_tokens,
                    new.reasoning_output_tokens,
                ),
            },
            answers: plus(self.answers, before.answers, after.answers),
            unmetered: plus(self.unmetered, before.unmetered, after.unmetered),
            cost_micros: sum_cost.or(new_cost).map(|_| cost),
            unpriced: plus(self.unpriced, before.unpriced, after.unpriced),
            estimated_tokens: plus(self.estimated_tokens, before.estimated_tokens, after.estimated_tokens),
            estimated_cost_micros: plus(
                self.estimated_cost_micros,
                before.estimated_cost_micros,
                after.estimated_cost_micros,
            ),
        }
    }
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
