//! The way of one job to the model: its token, the model's server, and the readings of its meter.

use std::sync::Arc;

use common::event::Usage;
use common::ids::JobId;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use tokio::sync::watch;

use super::account::{self, AccountProblem};
use super::meter::Reading;
use super::secret::Secret;
use super::upstream::Upstream;
use crate::time;

/// Readings of a job's meter since the route was created. They only grow, so that a reader may skip versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobReadings {
    /// Tokens of all answers.
    pub usage: Usage,
    /// Number of answers with token counts.
    pub answers: u64,
    /// Number of answers without token counts: interrupted, failed, or of a server that sends none.
    pub unmetered: u64,
    /// Number of requests without the job's token.
    pub refused: u64,
    /// Problem of the account in the newest answer that tells one; `None` after an answer without an error.
    pub problem: Option<AccountProblem>,
}

/// The way of one job to the model.
#[derive(Debug)]
pub struct JobRoute {
    job: JobId,
    token: Secret,
    upstream: Arc<Upstream>,
    readings: watch::Sender<JobReadings>,
}

impl JobRoute {
    /// Creates the route of a job, whose worker presents `token` as its key.
    pub fn new(job: JobId, token: Secret, upstream: Arc<Upstream>) -> Self {
        Self { job, token, upstream, readings: watch::Sender::default() }
    }

    /// Returns the readings, now and whenever they change.
    #[cfg(test)]
    pub fn readings(&self) -> watch::Receiver<JobReadings> {
        self.readings.subscribe()
    }

    /// Returns the job.
    pub(super) fn job(&self) -> &JobId {
        &self.job
    }

    /// Returns the model's server.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Returns true if a request presents the job's token. Refused requests are counted, and the log gets a line for
    /// the first of them and for each tenfold.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let is_admitted = presented.and_then(bearer_token).is_some_and(|token| self.token.matches(token));
        if !is_admitted {
            let mut refused = 0;
            self.readings.send_modify(|readings| {
                readings.refused = readings.refused.saturating_add(1);
                refused = readings.refused;
            });
            if is_power_of_ten(refused) {
                tracing::warn!("{}: {refused} requests to the model without the job's token", self.job);
            }
        }
        is_admitted
    }

    /// Adds the result of an answer.
    pub(super) fn record_answer(&self, reading: Reading) {
        let is_success = reading.usage.is_some() && reading.error.is_none();
        let problem = reading.error.and_then(|mut error| {
            error.message = self.upstream.mask(&error.message);
            account::classify(StatusCode::OK, &HeaderMap::new(), &error, time::now())
        });
        self.readings.send_modify(|readings| {
            match reading.usage {
                Some(usage) => {
                    readings.answers = readings.answers.saturating_add(1);
                    add_usage(&mut readings.usage, usage);
                }
                None => readings.unmetered = readings.unmetered.saturating_add(1),
            }
            if is_success || problem.is_some() {
                readings.problem = problem;
            }
        });
    }

    /// Records the problem of an answer that is an error, if it has one that is known.
    pub(super) fn record_problem(&self, problem: Option<AccountProblem>) {
        if problem.is_some() {
            self.readings.send_modify(|readings| readings.problem = problem);
        }
    }
}

fn add_usage(sum: &mut Usage, usage: Usage) {
    let counts = [
        (&mut sum.input_tokens, usage.input_tokens),
        (&mut sum.cached_input_tokens, usage.cached_input_tokens),
        (&mut sum.output_tokens, usage.output_tokens),
        (&mut sum.reasoning_output_tokens, usage.reasoning_output_tokens),
    ];
    for (sum, count) in counts {
        *sum = sum.saturating_add(count);
    }
}

/// Returns the token of an `Authorization` header. The scheme's case does not matter.
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

fn is_power_of_ten(mut number: u64) -> bool {
    while number >= 10 && number.is_multiple_of(10) {
        number /= 10;
    }
    number == 1
}
