//! The way of one job to the model: its token and the model's server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::ids::JobId;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};

use super::secret::Secret;
use super::upstream::Upstream;

/// The way of one job to the model.
#[derive(Debug)]
pub struct JobRoute {
    job: JobId,
    token: Secret,
    upstream: Arc<Upstream>,
    refused: AtomicU64,
}

impl JobRoute {
    /// Creates the route of a job, whose worker presents `token` as its key.
    pub fn new(job: JobId, token: Secret, upstream: Arc<Upstream>) -> Self {
        Self { job, token, upstream, refused: AtomicU64::new(0) }
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
            let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
            if is_power_of_ten(refused) {
                tracing::warn!("{}: {refused} requests to the model without the job's token", self.job);
            }
        }
        is_admitted
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
