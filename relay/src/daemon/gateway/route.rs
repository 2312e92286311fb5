//! The way of one job to the model: its token and the model's server.

use std::sync::Arc;

use common::ids::JobId;

use super::secret::Secret;
use super::upstream::Upstream;

/// The way of one job to the model.
#[derive(Debug)]
pub(in crate::daemon) struct JobRoute {
    pub(super) job: JobId,
    pub(super) token: Secret,
    pub(super) upstream: Arc<Upstream>,
}

impl JobRoute {
    /// Creates the route of a job, whose worker presents `token` as its key.
    pub(in crate::daemon) fn new(job: JobId, token: Secret, upstream: Arc<Upstream>) -> Self {
        Self { job, token, upstream }
    }
}
