//! Repositories of jobs with a clone of their own, in the state folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use common::ids::JobId;
use common::job::JobSpec;
use common::record::JobRecord;

use crate::git::job_repository::{self, JobRepository};
use crate::policy::JobPolicy;
use crate::registry::{Registry, read};

/// The repositories of one registry's jobs.
#[derive(Debug, Clone)]
pub(super) struct JobRepositories {
    registry: Registry,
    policy: JobPolicy,
    folder: PathBuf,
    /// Repositories that are being made, each with the lock of the one who makes it.
    preparing: Arc<Mutex<BTreeMap<JobId, Arc<Mutex<()>>>>>,
}

impl JobRepositories {
    pub(super) fn new(registry: &Registry, policy: JobPolicy, folder: PathBuf) -> Self {
        Self { registry: registry.clone(), policy, folder, preparing: Arc::default() }
    }

    /// The registry of the jobs.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the repository of a job, which may not exist.
    pub(super) fn of_job(&self, job: &JobId) -> JobRepository {
        JobRepository::of_job(&self.folder, job)
    }

    /// Returns the jobs with a repository.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        job_repository::jobs_in(&self.folder)
    }

    /// Removes what an earlier daemon has begun and not ended. No stream may be open.
    pub(super) fn remove_unfinished(&self) {
        job_repository::remove_begun(&self.folder);
        for job in self.jobs() {
            self.of_job(&job).remove_unfinished();
        }
    }

    /// Returns true if a job with a clone of its own has ended and its result is not recorded yet.
    pub(super) fn lacks_result(&self, record: &JobRecord) -> bool {
        let job = &record.job;
        let has_place = || self.of_job(job).exists() || read::place_of(&self.registry, job).is_some();
        record.state.is_final() && record.result.is_none() && has_place()
    }

    /// Removes the pack of a job, whose repository has its content or is never made.
    pub(super) fn remove_pack(&self, job: &JobId) {
        let pack = self.registry.pack(job);
        if let Err(e) = pack.remove() {
            tracing::warn!("{job}: {} can't be removed: {e}", pack.display());
        }
    }

    /// Begins to make the repository of a job that was offered to an agent, if its spec has a place: the agent asks for
    /// it soon. A failure is told to the agent then.
    pub(super) fn prepare_in_background(&self, job: &JobId, spec: &str) {
        if memchr::memmem::find(spec.as_bytes(), b"\"place\":").is_some() {
            let (repositories, job) = (self.clone(), job.clone());
            drop(tokio::task::spawn_blocking(move || repositories.prepare(&job)));
        }
    }

    /// Returns the repository of a job; makes it on the first call. Waits for git and the disk.
    ///
    /// # Errors
    /// One line that says what is in the way.
    pub(super) fn prepare(&self, job: &JobId) -> Result<JobRepository, String> {
        let lock = || self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(lock().entry(job.clone()).or_default());
        let made = {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.find_or_make(job)
        };
        lock().remove(job);
        made
    }

    /// Returns the repository of a job; makes it if there is none. The spec is checked again, because a session may have
    /// written it.
    fn find_or_make(&self, job: &JobId) -> Result<JobRepository, String> {
        let repository = self.of_job(job);
        if repository.exists() {
            return Ok(repository);
        }
        let text = self.registry.spec(job).read_text(read::MAX_FILE_SIZE);
        let text = text.map_err(|e| format!("its spec can't be read ({e}): launch it again"))?;
        let record = read::load_record(&self.registry, job).map(|stored| stored.record).ok();
        let host = record.as_ref().map(|record| record.workspace.as_str());
        let text = self.policy.authorize_text(job, &text, host.unwrap_or_default())?;
        let spec: JobSpec = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let place = spec.place.as_ref().ok_or("it has no clone of its own")?;
        let pack = self.registry.pack(job);
        let file = if pack.exists() {
            Some(pack.open().map_err(|e| format!("its uncommitted files can't be read ({e})"))?)
        } else {
            None
        };
        let follows = record.and_then(|record| record.origin.follows);
        let earlier = follows.map(|follows| self.of_job(&follows.job));
        repository
            .create(place, &self.policy.host_workspace(&spec), file, earlier.as_ref())
            .map_err(|error| error.to_string())?;
        self.remove_pack(job);
        Ok(repository)
    }
}
