//! Publishes the results of jobs with a clone of their own: the commits of an ended job become a branch in the caller's
//! repository. The result is recorded before the job's notices are delivered.
//!
//! ```text
//! `finished` is recorded ─► publish, in the background ─► `result` is recorded ─► notices
//! ```
//!
//! If a relay is killed in between, the next relay publishes the result when it starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::event::EventBody;
use common::ids::JobId;
use common::record::JobRecord;
use common::result::{JobResult, ResultState};
use tokio::sync::Semaphore;

use super::job_repositories::JobRepositories;
use super::receipts::{ReceivedEvidence, write_receipt};
use super::writer::{WriterCommand, WriterHandle};
use crate::git::publish;
use crate::job_identity::JobIdentity;
use crate::output::store::Outputs;
use crate::receipt::store::Receipts;
use crate::registry::read;

/// Maximum number of results that are published at once. Each publication runs git, which uses a core.
const MAX_CONCURRENT: usize = 2;

/// Publisher of results.
#[derive(Debug, Clone)]
pub(super) struct ResultPublisher {
    repositories: JobRepositories,
    receipts: Receipts,
    evidence: ReceivedEvidence,
    outputs: Outputs,
    writer: WriterHandle,
    publish_permits: Arc<Semaphore>,
}

impl ResultPublisher {
    pub(super) fn new(
        repositories: JobRepositories,
        (receipts, evidence): (Receipts, ReceivedEvidence),
        outputs: Outputs,
        writer: WriterHandle,
    ) -> Self {
        Self {
            repositories,
            receipts,
            evidence,
            outputs,
            writer,
            publish_permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
        }
    }

    /// Returns true if a job with its own clone has ended and its result is not recorded yet.
    pub(super) fn lacks_result(&self, record: &JobRecord) -> bool {
        self.repositories.lacks_result(record)
    }

    /// Starts to publish the result of a job that has ended, if [`Self::lacks_result`] is true; returns true then.
    pub(super) fn publish_if_missing(&self, record: &JobRecord) -> bool {
        let evidence = self.evidence.take_evidence(record);
        if !self.lacks_result(record) {
            return false;
        }
        let (publisher, record) = (self.clone(), record.clone());
        let job = record.job.clone();
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _permit = publisher.publish_permits.acquire().await;
            let (repositories, receipts) = (publisher.repositories.clone(), publisher.receipts.clone());
            let outcome = tokio::task::spawn_blocking(move || {
                let result = publish_result(&repositories, &record);
                let repository = repositories.repository(&JobIdentity::of(&record));
                write_receipt(&receipts, &repository, &record, &result, evidence.as_ref());
                result
            });
            match outcome.await {
                Ok(result) => publisher.record_result(&job, result).await,
                Err(e) => tracing::error!("{job}: its result could not be published: {e}"),
            }
        });
        true
    }

    /// Starts to publish every result that an earlier relay did not record, and removes what that relay did not finish.
    pub(super) fn publish_all_missing(&self) {
        let registry = self.repositories.registry();
        let with_repository = self.repositories.jobs();
        let mut jobs: BTreeSet<JobId> =
            with_repository.iter().map(|identity| identity.job().clone()).collect();
        self.repositories.remove_unfinished();
        self.outputs.remove_unfinished();
        jobs.extend(read::jobs_in_folder(registry).unwrap_or_default());
        for job in jobs {
            if let Ok(stored) = read::load_record(self.repositories.registry(), &job) {
                self.publish_if_missing(&stored.record);
            }
        }
    }

    /// Records that a result was applied, merged or discarded. A request may be late or forged, so it names the commit.
    pub(super) async fn set_result_state(&self, job: &JobId, commit: &str, state: ResultState) {
        let stored = read::load_record(self.repositories.registry(), job).ok();
        let identity = stored.as_ref().map(|stored| JobIdentity::of(&stored.record));
        let result = stored.and_then(|stored| stored.record.result);
        let Some(result) = result.filter(|result| result.commit.as_deref() == Some(commit)) else {
            return tracing::warn!("{job}: a request names another result than the job has");
        };
        if !matches!(state, ResultState::Applied | ResultState::Merged | ResultState::Discarded) {
            return tracing::warn!("{job}: a request asks for a state that no result can be given");
        }
        if state == ResultState::Discarded {
            self.remove_repositories(identity.as_slice());
        }
        self.record_result(job, JobResult { state, ..result }).await;
    }

    fn remove_repositories(&self, jobs: &[JobIdentity]) {
        for job in jobs {
            if let Err(e) = self.repositories.repository(job).remove() {
                tracing::warn!("{job}: its repository can't be removed: {e}");
            }
        }
    }

    /// Removes the repositories, outputs and receipts of jobs that are no longer in the registry.
    pub(super) fn remove_jobs(&self, jobs: &[JobIdentity]) {
        self.remove_repositories(jobs);
        for job in jobs {
            if let Err(e) = self.outputs.remove(job) {
                tracing::warn!("{job}: its output can't be removed: {e}");
            }
            if let Err(e) = self.receipts.remove(job) {
                tracing::warn!("{job}: its receipt can't be removed: {e}");
            }
        }
    }

    async fn record_result(&self, job: &JobId, result: JobResult) {
        let body = Box::new(EventBody::Result(Box::new(result)));
        self.writer.send(WriterCommand::RecordRelayEvent { job: job.clone(), body }).await;
    }
}

/// Publishes the result of a job. The result is empty if the job's repository was never made.
fn publish_result(repositories: &JobRepositories, record: &JobRecord) -> JobResult {
    let job = &record.job;
    let repository = repositories.repository(&JobIdentity::of(record));
    repositories.remove_pack(job);
    if repository.exists() {
        return publish::publish(&repository);
    }
    let place = read::place_of(repositories.registry(), job);
    let (branch, base) =
        place.map(|place| (place.branch().to_owned(), place.base().to_owned())).unwrap_or_default();
    JobResult::none(branch, base)
}
