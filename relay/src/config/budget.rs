//! Table `[budget]` of `relay.toml`: the budgets of each job and of a day for the model.

use common::budget::{Budget, parse_cost};
use serde::Deserialize;
use toml::Spanned;

use super::serde_util::ConfigError;

/// Table `[budget]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBudget {
    job: Option<Spanned<f64>>,
    job_tokens: Option<Spanned<u64>>,
    day: Option<Spanned<f64>>,
    day_tokens: Option<Spanned<u64>>,
}

impl RawBudget {
    /// Checks the values. Returns the budget of each job and that of a day.
    pub(super) fn resolve(self) -> Result<(Budget, Budget), ConfigError> {
        let job = resolve("job", self.job, self.job_tokens)?;
        Ok((job, resolve("day", self.day, self.day_tokens)?))
    }
}

fn resolve(
    name: &str,
    cost: Option<Spanned<f64>>,
    tokens: Option<Spanned<u64>>,
) -> Result<Budget, ConfigError> {
    let cost_of = |cost: Spanned<f64>| {
        let error = |reason| ConfigError { range: cost.span(), reason: format!("[budget] {name}: {reason}") };
        parse_cost(&cost.get_ref().to_string()).map_err(error)
    };
    let tokens_of = |tokens: Spanned<u64>| match *tokens.get_ref() {
        0 => Err(ConfigError {
            range: tokens.span(),
            reason: format!("[budget] {name}_tokens = 0: no job could ever ask the model: set 1 or more"),
        }),
        tokens => Ok(tokens),
    };
    Ok(Budget {
        max_cost_micros: cost.map(cost_of).transpose()?,
        max_tokens: tokens.map(tokens_of).transpose()?,
    })
}
