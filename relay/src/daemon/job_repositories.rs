//! Git repositories of the jobs that work in a clone of their own. The repositories lie in the relay's state folder.
//! Agents fetch the base of a clone from a repository, and push the job's result to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use common::ids::JobId;
use common::job::JobSpec;
use common::record::JobRecord;

use crate::git::job_repository::{self, JobRepository};
use crate::job_identity::JobIdentity;
use crate::policy::JobPolicy;
use crate::registry::{Registry, read};

/// The repositories of the jobs of one registry.
#[derive(Debug, Clone)]
pub(super) struct JobRepositories {
    registry: Registry,
    policy: JobPolicy,
    folder: PathBuf,
    /// Locks of the repositories that are being made, so that each is made once.
    locks: Arc<Mutex<BTreeMap<JobId, Arc<Mutex<()>>>>>,
}

impl JobRepositories {
    pub(super) fn new(registry: &Registry, policy: JobPolicy, folder: PathBuf) -> Self {
        Self { registry: registry.clone(), policy, folder, locks: Arc::default() }
    }

    /// Returns the registry of the jobs.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the identity of a job.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn identity(&self, job: &JobId) -> Result<JobIdentity, String> {
        Ok(JobIdentity::of(&self.load_record(job)?))
    }

    fn load_record(&self, job: &JobId) -> Result<JobRecord, String> {
        let stored = read::load_record(&self.registry, job);
        Ok(stored.map_err(|e| format!("its record can't be read ({e})"))?.record)
    }

    /// Returns the repository of a job, which may not exist.
    pub(super) fn repository(&self, job: &JobIdentity) -> JobRepository {
        JobRepository::of_job(&self.folder, job)
    }

    /// Returns the jobs with a repository.
    pub(super) fn jobs(&self) -> Vec<JobIdentity> {
        job_repository::list_jobs(&self.folder)
    }

    /// Removes repositories and objects that an earlier daemon left unfinished. No stream may be open.
    pub(super) fn remove_unfinished(&self) {
        job_repository::remove_unfinished_repositories(&self.folder);
        for job in self.jobs() {
            self.repository(&job).remove_unfinished_pushes();
        }
    }

    /// Returns true if a job with a clone of its own has ended and its result is not recorded yet.
    pub(super) fn lacks_result(&self, record: &JobRecord) -> bool {
        let job = &record.job;
        let has_repository = || self.repository(&JobIdentity::of(record)).exists();
        let has_place = || has_repository() || read::place_of(&self.registry, job).is_some();
        record.state.is_final() && record.result.is_none() && has_place()
    }

    /// Removes the pack with a job's uncommitted files, which the job's repository has, unless it is never made.
    pub(super) fn remove_pack(&self, job: &JobId) {
        let pack = self.registry.pack(job);
        if let Err(e) = pack.remove() {
            tracing::warn!("{job}: {} can't be removed: {e}", pack.display());
        }
    }

    /// Starts to make the repository of a job that was offered to an agent, if the job has a clone of its own. The
    /// agent fetches from it soon. If making it fails, the agent learns the reason from that fetch.
    pub(super) fn prepare_in_background(&self, job: &JobId, spec: &str) {
        if memchr::memmem::find(spec.as_bytes(), b"\"place\":").is_some() {
            let (repositories, job) = (self.clone(), job.clone());
            drop(tokio::task::spawn_blocking(move || repositories.prepare(&job)));
        }
    }

    /// Returns the repository of a job; makes it on the first call. Waits for git and the disk.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn prepare(&self, job: &JobId) -> Result<JobRepository, String> {
        let lock_map = || self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let job_lock = Arc::clone(lock_map().entry(job.clone()).or_default());
        let repository = {
            let _guard = job_lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.find_or_make(job)
        };
        lock_map().remove(job);
        repository
    }

    /// Returns the repository of a job; makes it if there is none. The spec is checked again, because a session may
    /// have written it.
    fn find_or_make(&self, job: &JobId) -> Result<JobRepository, String> {
        let record = self.load_record(job)?;
        let repository = self.repository(&JobIdentity::of(&record));
        if repository.exists() {
            return Ok(repository);
        }
        let text = self.registry.spec(job).read_text(read::MAX_FILE_SIZE);
        let text = text.map_err(|e| format!("its spec can't be read ({e}): launch it again"))?;
        let text = self.policy.authorize_text(job, &text, &record.workspace)?;
        let spec: JobSpec = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let place = spec.place.as_ref().ok_or("it has no clone of its own")?;
        let pack = self.registry.pack(job);
        let file = if pack.exists() {
            Some(pack.open().map_err(|e| format!("its uncommitted files can't be read ({e})"))?)
        } else {
            None
        };
        let earlier = record.origin.follows.and_then(|follows| self.identity(&follows.job).ok());
        let earlier_repository = earlier.map(|earlier| self.repository(&earlier));
        repository
            .create(place, &self.policy.host_workspace(&spec), file, earlier_repository.as_ref())
            .map_err(|error| error.to_string())?;
        self.remove_pack(job);
        Ok(repository)
    }
}
