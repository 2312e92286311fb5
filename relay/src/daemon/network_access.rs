//! Access of jobs to other hosts through this relay.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::ids::JobId;
use common::record::JobRecord;

use super::network::{JobNetwork, SecretRoutes};
use super::writer::WriterHandle;
use crate::config::network::AllowList;
use crate::registry::{Registry, read};

/// Access to the hosts of `[network] allow`, and to those of secrets.
#[derive(Debug, Clone)]
pub(super) struct NetworkAccess {
    allow: Arc<AllowList>,
    secrets: SecretRoutes,
    registry: Registry,
    writer: WriterHandle,
    /// Network of each job that has used it, from its first connection to its end.
    jobs: Arc<Mutex<BTreeMap<JobId, Arc<JobNetwork>>>>,
}

impl NetworkAccess {
    /// Creates the access to these hosts. Refusals go to the writer, as events.
    pub(super) fn new(
        allow: AllowList,
        secrets: SecretRoutes,
        registry: Registry,
        writer: WriterHandle,
    ) -> Self {
        Self { allow: Arc::new(allow), secrets, registry, writer, jobs: Arc::default() }
    }

    /// Returns the network of a running job. A new one goes on from the job's record, which an earlier relay may have
    /// written.
    ///
    /// # Errors
    /// The job has ended.
    pub(super) fn job(&self, record: &JobRecord) -> Result<Arc<JobNetwork>, String> {
        let job = &record.job;
        let new = || {
            let hosts = (Arc::clone(&self.allow), self.secrets.clone());
            let refused = record.network_refused.clone();
            Arc::new(JobNetwork::new(job.clone(), hosts, refused, self.writer.clone()))
        };
        let network = Arc::clone(self.lock().entry(job.clone()).or_insert_with(new));
        // The job may have ended since its record was read. Then nothing else would remove its network.
        if read::load_record(&self.registry, job).is_ok_and(|stored| stored.record.state.is_final()) {
            self.remove_job(job);
            return Err("the job has ended".to_owned());
        }
        Ok(network)
    }

    /// Removes the network of a job that has ended.
    pub(super) fn remove_job(&self, job: &JobId) {
        let removed = self.lock().remove(job);
        if let Some(network) = removed {
            network.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<JobNetwork>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
