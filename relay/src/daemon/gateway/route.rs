//! The way of one connection of a job to the model: the job's token, the model's server, and the job's meter.

use std::sync::Arc;

use common::event::Usage;
use common::ids::JobId;
use common::model_usage::ModelProblem;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use super::account;
use super::job_meter::JobMeter;
use super::reading::Reading;
use super::request_check::RequestRules;
use super::upstream::{API_KEY, Upstream};
use crate::model_server::{ModelApi, Secret};
use crate::time;

/// The way of one connection of a job to the model.
#[derive(Debug)]
pub struct JobRoute {
    token: Secret,
    upstream: Arc<Upstream>,
    meter: Arc<JobMeter>,
}

impl JobRoute {
    /// Creates the route of a job, whose worker presents `token` as its key.
    pub fn new(token: Secret, upstream: Arc<Upstream>, meter: Arc<JobMeter>) -> Self {
        Self { token, upstream, meter }
    }

    /// Returns the readings of the job's meter.
    #[cfg(test)]
    pub fn readings(&self) -> tokio::sync::watch::Receiver<super::job_meter::JobReadings> {
        self.meter.readings()
    }

    /// Ends the job's use of the model.
    #[cfg(test)]
    pub fn close_job(&self) {
        self.meter.close();
    }

    /// Returns the job.
    pub(super) fn job(&self) -> &JobId {
        self.meter.job()
    }

    /// Returns the model's server.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Returns the rules for the job's requests.
    pub(super) fn rules(&self) -> RequestRules {
        self.meter.rules()
    }

    /// Returns true if a request presents the job's token and the job has not ended. Refused requests are counted.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| bearer_token(value.as_bytes()));
        let key = headers.get(API_KEY).filter(|_| self.upstream.api() == ModelApi::Messages);
        let presented = key.map(HeaderValue::as_bytes).or(bearer);
        let has_token = presented.is_some_and(|token| self.token.matches(token));
        let is_admitted = has_token && !self.meter.is_closed();
        if !is_admitted {
            self.meter.count_refused();
        }
        is_admitted
    }

    /// Returns the reason why the job may send no further request.
    pub(super) fn exceeded_budget(&self) -> Option<String> {
        self.meter.exceeded_budget()
    }

    /// Adds the result of an answer. `estimate` counts if the answer has no token counts.
    pub(super) fn record_answer(&self, reading: &Reading, estimate: Usage) {
        let problem = reading.error.as_ref().and_then(|error| {
            let mut error = error.clone();
            error.message = self.upstream.mask(&error.message);
            account::classify(StatusCode::OK, &HeaderMap::new(), &error, time::now())
        });
        self.meter.record_answer(reading, estimate, problem);
    }

    /// Records the problem of an answer that is an error, if it has one that is known.
    pub(super) fn record_problem(&self, problem: Option<ModelProblem>) {
        self.meter.record_problem(problem);
    }
}

/// Returns the token of an `Authorization` header. The scheme's case does not matter.
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}
