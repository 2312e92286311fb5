//! Table `[limits]` of `relay.toml`. The parser validates each limit alone; this module checks limits against each
//! other.

use std::collections::BTreeMap;

use common::duration;
use common::job::{Limits, StepKind};
use common::rule::{OnLimit, OnLoop};
use serde::Deserialize;
use toml::Spanned;

use super::serde_util::{ConfigError, Millis};
use super::stall;

/// Table `[limits]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) job: Option<Spanned<Millis>>,
    grace: Option<Millis>,
    steps: BTreeMap<StepKind, Spanned<Millis>>,
    stall: Option<Spanned<Millis>>,
    stalls: BTreeMap<StepKind, Spanned<Millis>>,
    pub(super) on_limit: Option<OnLimit>,
    pub(super) on_loop: Option<OnLoop>,
}

impl RawLimits {
    /// Fills in the defaults.
    ///
    /// # Errors
    /// Returns an error for a step limit above the limit of the job, or for a stall limit that can never be reached.
    /// Only configured values can contradict each other: defaults are adapted.
    pub(super) fn resolve(self) -> Result<Limits, ConfigError> {
        let mut limits = Limits::default();
        if let Some(job) = &self.job {
            limits.job_ms = job.get_ref().0;
        }
        if let Some(grace) = self.grace {
            limits.grace_ms = grace.0;
        }
        for (kind, limit) in &self.steps {
            let limit_ms = limit.get_ref().0;
            if self.job.is_some() && limit_ms > limits.job_ms {
                let reason = format!(
                    "[limits] steps.{kind} = {} exceeds the limit of the job (job = {}): lower it or raise \
                    [limits] job",
                    duration::format_limit(limit_ms),
                    duration::format_limit(limits.job_ms)
                );
                return Err(ConfigError { range: limit.span(), reason });
            }
            limits.steps.insert(*kind, limit_ms);
        }
        for (kind, stall) in &self.stalls {
            let stall_ms = stall.get_ref().0;
            stall::check_kind_limit(&limits, *kind, stall_ms).map_err(|reason| ConfigError {
                range: stall.span(),
                reason: format!("[limits] stalls.{kind} = {}{reason}", duration::format_limit(stall_ms)),
            })?;
            limits.stalls.insert(*kind, stall_ms);
        }
        if let Some(stall) = &self.stall {
            let stall_ms = stall.get_ref().0;
            let has_step_limit = |kind| self.steps.contains_key(&kind);
            stall::check_network_limit(&limits, has_step_limit, stall_ms).map_err(|reason| ConfigError {
                range: stall.span(),
                reason: format!("[limits] stall = {}{reason}", duration::format_limit(stall_ms)),
            })?;
            limits.stall_ms = stall_ms;
        }
        Ok(limits)
    }
}
