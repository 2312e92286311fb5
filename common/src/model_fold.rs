//! Part of the fold: use of the model, and problems of the account with it. Pure.

use crate::event::{FailureKind, JobError, MAX_TEXT, Usage};
use crate::model_usage::ModelUsage;
use crate::record::JobRecord;
use crate::text_format;

impl JobRecord {
    pub(crate) fn apply_model_usage(&mut self, model_usage: ModelUsage) {
        self.usage = Some(model_usage.usage);
        self.model_usage = Some(model_usage);
    }

    /// Applies the token counts that Codex reports. The relay's own take precedence, because they cover every request.
    pub(crate) fn apply_reported_usage(&mut self, usage: Usage) {
        if self.model_usage.is_none() {
            self.usage = Some(usage);
        }
    }

    /// Returns a job's error with the kind of the account's problem, which the model's server has in typed fields. The
    /// agent knows only Codex's words for it.
    pub(crate) fn explain_by_model_problem(&self, error: Option<&JobError>) -> Option<JobError> {
        let mut error = error?.clone();
        let Some(problem) = self.model_problem.as_ref().filter(|_| is_failure_of_codex(error.kind)) else {
            return Some(error);
        };
        error.kind = problem.kind;
        if problem.kind == FailureKind::BudgetExceeded {
            // Codex only reports that the relay refused a request.
            error.message.clone_from(&problem.message);
        }
        if let Some(at) = problem.resets_at {
            error.message = text_format::truncate(&format!("{} (until {at})", error.message), MAX_TEXT);
        }
        Some(error)
    }

    /// Returns true if `usage` covers the whole thread of a resumed job, and not this job alone.
    pub fn has_usage_of_thread(&self) -> bool {
        self.is_resumed() && self.model_usage.is_none()
    }
}

/// Returns true for a failure that Codex has reported, or that ended Codex.
fn is_failure_of_codex(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::CodexError
            | FailureKind::CodexExit
            | FailureKind::UsageLimit
            | FailureKind::RateLimited
            | FailureKind::Auth
            | FailureKind::ContextWindow
            | FailureKind::Overloaded
            | FailureKind::CodexOutdated
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::event::{Event, EventBody, FinalState, Queued};
    use crate::event_line::{EventLine, Source};
    use crate::model_usage::ModelProblem;

    fn line(source: Source, body: EventBody) -> EventLine {
        let event = Some(Event { at: Timestamp::UNIX_EPOCH, body });
        EventLine { id: 1, job: "demo#1".parse().unwrap(), epoch: 1, seq: 1, source, event }
    }

    fn rebuild(lines: impl IntoIterator<Item = (Source, EventBody)>) -> JobRecord {
        let queued = line(Source::Relay, EventBody::Queued(Box::<Queued>::default()));
        let lines: Vec<_> = lines.into_iter().map(|(source, body)| line(source, body)).collect();
        JobRecord::rebuild(std::iter::once(&queued).chain(&lines)).unwrap()
    }

    fn usage(input_tokens: u64) -> Usage {
        Usage { input_tokens, ..Usage::default() }
    }

    fn metered(input_tokens: u64) -> EventBody {
        EventBody::ModelUsage(Box::new(ModelUsage { usage: usage(input_tokens), ..ModelUsage::default() }))
    }

    #[test]
    fn tokens_that_the_relay_counts_replace_those_that_codex_reports() {
        let reported = (Source::Agent, EventBody::Usage(usage(900)));
        assert_eq!(rebuild([reported.clone()]).usage, Some(usage(900)));
        let counted = rebuild([(Source::Relay, metered(10)), reported.clone(), (Source::Relay, metered(30))]);
        assert_eq!(counted.usage, Some(usage(30)));
        assert_eq!(rebuild([(Source::Relay, metered(30)), reported.clone()]).usage, Some(usage(30)));
        let forged = rebuild([(Source::Agent, metered(1)), reported]);
        assert_eq!((forged.usage, forged.model_usage), (Some(usage(900)), None));
    }

    #[test]
    fn a_failure_of_codex_has_the_kind_that_the_model_s_server_gave() {
        let problem = |kind| {
            let resets_at = Some(Timestamp::from_second(3600).unwrap());
            let problem = ModelProblem { kind, message: "used up".to_owned(), resets_at };
            (Source::Relay, EventBody::ModelProblem { problem: Some(Box::new(problem)) })
        };
        let finished = |kind| {
            let error = Some(JobError { kind, message: "codex failed".to_owned(), step: None });
            let state = FinalState::Failed;
            (Source::Agent, EventBody::Finished { state, error, exit_code: Some(1), changes: None })
        };
        let error = |lines: &[(Source, EventBody)]| {
            let error = rebuild(lines.iter().cloned()).error.unwrap();
            (error.kind, error.message)
        };
        let (limit, cleared) =
            (problem(FailureKind::UsageLimit), (Source::Relay, EventBody::ModelProblem { problem: None }));
        let failed = finished(FailureKind::CodexError);
        let explained = (FailureKind::UsageLimit, "codex failed (until 1970-01-01T01:00:00Z)".to_owned());
        assert_eq!(error(&[limit.clone(), failed.clone()]), explained);
        let plain = |kind| (kind, "codex failed".to_owned());
        assert_eq!(error(&[limit.clone(), cleared, failed]), plain(FailureKind::CodexError));
        let other = finished(FailureKind::JobTimeout);
        assert_eq!(error(&[limit, other]), plain(FailureKind::JobTimeout));
    }
}
