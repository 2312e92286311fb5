//! Tables `[[step]]` of `relay.toml`: rules for steps with a matching command line.

use common::duration;
use common::job::{Limits, StepKind};
use common::rule::{self, MAX_RULES, OnLimit, StepRule};
use serde::Deserialize;
use toml::Spanned;

use super::serde_util::{ConfigError, Millis};
use super::stall;

/// Table `[[step]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    r#match: Spanned<String>,
    kind: Spanned<StepKind>,
    limit: Option<Spanned<Millis>>,
    stall: Option<Spanned<Millis>>,
    on_limit: Option<OnLimit>,
}

/// Checks the rules; `job_ms` is the job's limit if the file sets one.
pub(super) fn resolve(
    rules: Vec<Spanned<RawRule>>,
    limits: &Limits,
    job_ms: Option<u64>,
) -> Result<Vec<StepRule>, ConfigError> {
    if let Some(rule) = rules.get(MAX_RULES) {
        let reason = format!("[[step]] number {}: there can be at most {MAX_RULES}", MAX_RULES + 1);
        return Err(ConfigError { range: rule.span(), reason });
    }
    rules.into_iter().map(|rule| rule.into_inner().resolve(limits, job_ms)).collect()
}

impl RawRule {
    fn resolve(self, limits: &Limits, job_ms: Option<u64>) -> Result<StepRule, ConfigError> {
        rule::compile_pattern(self.r#match.get_ref()).map_err(|reason| ConfigError {
            range: self.r#match.span(),
            reason: format!("[[step]] match {reason}"),
        })?;
        let kind = *self.kind.get_ref();
        if matches!(kind, StepKind::Start | StepKind::Model) {
            let reason = format!("[[step]] kind = \"{kind}\": no command line is of this kind");
            return Err(ConfigError { range: self.kind.span(), reason });
        }
        let limit_ms = self.limit.as_ref().map(|limit| limit.get_ref().0);
        if let (Some(limit), Some(limit_ms), Some(job_ms)) = (&self.limit, limit_ms, job_ms)
            && limit_ms > job_ms
        {
            let reason = format!(
                "[[step]] limit = {} exceeds the limit of the job ([limits] job = {}): lower it or raise [limits] job",
                duration::format_limit(limit_ms),
                duration::format_limit(job_ms)
            );
            return Err(ConfigError { range: limit.span(), reason });
        }
        let stall_ms = self.stall.as_ref().map(|stall| stall.get_ref().0);
        if let (Some(stall), Some(stall_ms)) = (&self.stall, stall_ms) {
            stall::check_below(kind, limit_ms.unwrap_or_else(|| limits.step_ms(kind)), stall_ms).map_err(
                |reason| {
                    let reason = format!("[[step]] stall = {}{reason}", duration::format_limit(stall_ms));
                    ConfigError { range: stall.span(), reason }
                },
            )?;
        }
        Ok(StepRule { pattern: self.r#match.into_inner(), kind, limit_ms, stall_ms, on_limit: self.on_limit })
    }
}
