//! Table `[budget]` of `relay.toml`: the budget of each job for the model.

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
}

impl RawBudget {
    /// Checks the values.
    pub(super) fn resolve(self) -> Result<Budget, ConfigError> {
        let cost = |cost: Spanned<f64>| {
            let error =
                |reason| ConfigError { range: cost.span(), reason: format!("[budget] job: {reason}") };
            parse_cost(&cost.get_ref().to_string()).map_err(error)
        };
        let tokens = |tokens: Spanned<u64>| match *tokens.get_ref() {
            0 => Err(ConfigError {
                range: tokens.span(),
                reason: "[budget] job_tokens = 0: no job could ever ask the model: set 1 or more".to_owned(),
            }),
            tokens => Ok(tokens),
        };
        Ok(Budget {
            max_cost_micros: self.job.map(cost).transpose()?,
            max_tokens: self.job_tokens.map(tokens).transpose()?,
        })
    }
}
