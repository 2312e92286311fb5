//! The result of a job with a clone of its own: its commit, its state, and the repository with its objects.

use std::time::{Duration, Instant};

use common::ids::JobId;
use common::place::PlaceSpec;
use common::record::JobRecord;
use common::result::{JobResult, ResultState};

use super::{Context, job_ref};
use crate::exit::Failure;
use crate::files::watch::FolderWatch;
use crate::git::job_repository::JobRepository;
use crate::job_identity::JobIdentity;
use crate::registry::lease;
use crate::registry::read::{self, StoredRecord};
use crate::registry::requests::{self, DaemonRequest};
use crate::state_dir::StateDir;

/// A job with a clone of its own.
#[derive(Debug)]
pub(super) struct PlacedJob {
    /// Record of the job.
    pub(super) record: JobRecord,
    /// Clone in which the job works.
    pub(super) place: PlaceSpec,
    /// The job's repository in relay's state folder; it may not exist.
    pub(super) repository: JobRepository,
}

impl PlacedJob {
    /// Finds a job that the user named; defaults to the newest one.
    ///
    /// # Errors
    /// Exit code 3 if the job does not exist, 2 if it is ambiguous or has no clone of its own, 5 if it can't be read.
    pub(super) fn find(context: &Context, user_input: Option<&str>) -> Result<Self, Failure> {
        let job = job_ref::resolve_job_or_newest(context, user_input)?;
        let stored = job_ref::read_record(&context.registry, &job)?;
        let place = read::place_of(&stored.registry, &job).ok_or_else(|| {
            Failure::usage(format!(
                "{job} worked in its folder and has no branch: `git diff` in {} shows its changes",
                stored.record.workspace
            ))
        })?;
        let repositories = StateDir::for_project(&context.root)?.repositories();
        let repository = JobRepository::of_job(&repositories, &JobIdentity::of(&stored.record));
        Ok(Self { record: stored.record, place, repository })
    }

    /// Returns the id of the job.
    pub(super) fn job(&self) -> &JobId {
        &self.record.job
    }

    /// Returns the newest commit of the job: that of its result, or of the newest snapshot while the job is running.
    ///
    /// # Errors
    /// Exit code 2 if the job has changed nothing.
    pub(super) fn newest_commit(&self) -> Result<String, Failure> {
        let recorded = self.record.result.as_ref().and_then(|result| result.commit.clone());
        let commit = match recorded {
            Some(commit) => Some(commit),
            None if self.repository.exists() && self.record.state.is_final() => {
                self.repository.result_commit()?
            }
            None if self.repository.exists() => self.repository.live_commit()?,
            None => None,
        };
        commit.ok_or_else(|| {
            let job = self.job();
            Failure::usage(if self.record.state.is_final() {
                format!("{job} has no result: it changed nothing")
            } else {
                format!("{job} has changed nothing yet")
            })
        })
    }

    /// Returns the result of a job that has ended, and its commit.
    ///
    /// # Errors
    /// Exit code 2 if the job has not ended, changed nothing, or its result is not recorded yet or was discarded.
    pub(super) fn open_result(&self, context: &Context) -> Result<(&JobResult, String), Failure> {
        let job = self.job();
        if !self.record.state.is_final() {
            return Err(Failure::usage(format!(
                "{job} has not ended: `relay wait {job}` first; `relay diff {job}` shows what is there"
            )));
        }
        let result = self.record.result.as_ref().ok_or_else(|| {
            Failure::usage(format!(
                "the result of {job} is not there yet: it needs a running relay (`relay up`)"
            ))
        })?;
        let Some(commit) = result.commit.clone().filter(|_| result.state != ResultState::None) else {
            return Err(Failure::usage(format!("{job} has no result: it changed nothing")));
        };
        if self.result_state(context, &commit) == Some(ResultState::Discarded) {
            return Err(Failure::usage(format!("the result of {job} was discarded")));
        }
        Ok((result, commit))
    }

    /// Returns how the result was taken or discarded; `None` if it was not. A request that no daemon has handled yet
    /// takes precedence over the record.
    pub(super) fn result_state(&self, context: &Context, commit: &str) -> Option<ResultState> {
        let pending = requests::pending_requests(&context.registry).unwrap_or_default();
        let requested = pending.into_iter().rev().find_map(|filed| match filed.request {
            Some(DaemonRequest::SetResultState { job, commit: id, state })
                if job == *self.job() && id == commit =>
            {
                Some(state)
            }
            _ => None,
        });
        let recorded = self.record.result.as_ref().map(|result| result.state);
        requested.or(recorded).filter(|state| !matches!(state, ResultState::Open | ResultState::None))
    }
}

/// Time after a job's end, in seconds, in which a missing result counts as pending.
const MAX_PENDING_S: i64 = 60;

/// Returns true if a job has just ended and its result is being published.
pub(super) fn is_pending(context: &Context, stored: &StoredRecord) -> bool {
    let StoredRecord { record, registry } = stored;
    let Some(ended_at) = record.finished_at.filter(|_| record.result.is_none()) else { return false };
    lease::current_time(&context.registry).duration_since(ended_at).as_secs() < MAX_PENDING_S
        && read::place_of(registry, &record.job).is_some()
        && lease::is_held(&context.registry)
}

/// Longest wait until the daemon has recorded the state of a result: some syncs of a slow disk.
const MAX_RECORDING_TIME: Duration = Duration::from_secs(1);

/// Asks the daemon to record that a result was applied, merged or discarded. If no daemon runs, the next one does so.
///
/// # Errors
/// Exit code 5 if the registry can't be written.
pub(super) fn request_state(
    context: &Context,
    job: &JobId,
    commit: &str,
    state: ResultState,
) -> Result<(), Failure> {
    let registry = &context.registry;
    let request = DaemonRequest::SetResultState { job: job.clone(), commit: commit.to_owned(), state };
    let watch = FolderWatch::registry_folder(&registry.requests());
    let path = requests::file_request(registry, &request).map_err(|e| {
        registry.not_writable(&e).with_work_done(&format!("the result of {job} was {}", state.as_str()))
    })?;
    if lease::is_held(registry) {
        // The wait lets the next command see the new state. After the time limit, the state is recorded later.
        let deadline = Instant::now() + MAX_RECORDING_TIME;
        while requests::request_file(registry, &path).exists() && watch.wait(Some(deadline)) {}
    }
    Ok(())
}
