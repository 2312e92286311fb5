//! Access of jobs to the model through this relay.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use common::ids::JobId;
use common::wire::ModelToken;

use super::gateway::{JobRoute, Secret, Upstream};
use crate::state_dir::model_secret::ModelSecret;

/// Routes by job and run.
type Routes = HashMap<(JobId, u32), Weak<JobRoute>>;

/// Access to the model.
#[derive(Debug, Clone)]
pub(super) struct ModelAccess {
    secret: ModelSecret,
    /// Routes that connections use. The connections of a run share its route.
    routes: Arc<Mutex<Routes>>,
}

impl ModelAccess {
    /// Loads the secret of the jobs' tokens, or creates it.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn load(secret_file: &Path) -> Result<Self, String> {
        Ok(Self { secret: ModelSecret::load_or_create(secret_file)?, routes: Arc::default() })
    }

    /// Returns the token of a run, if this relay has a model for it.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn token(&self, job: &JobId, epoch: u32) -> Result<ModelToken, String> {
        upstream()?;
        self.secret.token(job, epoch)
    }

    /// Returns the route of a run's requests to the model.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn route(&self, job: &JobId, epoch: u32) -> Result<Arc<JobRoute>, String> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let run = (job.clone(), epoch);
        if let Some(route) = routes.get(&run).and_then(Weak::upgrade) {
            return Ok(route);
        }
        let token = self.secret.token(job, epoch)?;
        let route = Arc::new(JobRoute::new(job.clone(), Secret::new(token.as_str()), upstream()?));
        routes.retain(|_, route| route.strong_count() > 0);
        routes.insert(run, Arc::downgrade(&route));
        Ok(route)
    }
}

/// Returns the model's server. Its address and key are read each time, so that a changed key is used at once.
fn upstream() -> Result<Arc<Upstream>, String> {
    Upstream::from_codex_settings().map(Arc::new)
}
