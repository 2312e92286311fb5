//! Results of jobs with a clone of their own: published when a job has ended, and recorded before its notices go out.
//!
//! ```text
//! `finished` is recorded ─► publish, in the background ─► `result` is recorded ─► notices
//! ```
//!
//! A relay that was killed in between publishes at its next start.

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
use crate::output::store::Outputs;
use crate::receipt::store::Receipts;
use crate::registry::read;

/// Number of results that are published at once: each runs git, which uses a core.
const MAX_AT_ONCE: usize = 2;

/// Publisher of results.
#[derive(Debug, Clone)]
pub(super) struct ResultPublisher {
    repositories: JobRepositories,
    receipts: Receipts,
    evidence: ReceivedEvidence,
    outputs: Outputs,
    writer: WriterHandle,
    turns: Arc<Semaphore>,
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
            turns: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        }
    }

    /// Returns true if a job with its own clone has ended and its result is not recorded yet.
    pub(super) fn lacks_result(&self, record: &JobRecord) -> bool {
        self.repositories.lacks_result(record)
    }

    /// Begins to publish the result of a job that has ended, if it has its own clone and no result yet; returns true then.
    pub(super) fn publish_if_missing(&self, record: &JobRecord) -> bool {
        let evidence = self.evidence.take(record);
        if !self.lacks_result(record) {
            return false;
        }
        let (publisher, record) = (self.clone(), record.clone());
        let job = record.job.clone();
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _turn = publisher.turns.acquire().await;
            let (publishing, receipts) = (publisher.repositories.clone(), publisher.receipts.clone());
            let outcome = tokio::task::spawn_blocking(move || {
                let result = publish_result(&publishing, &record.job);
                let repository = publishing.of_job(&record.job);
                write_receipt(&receipts, &repository, &record, &result, evidence.as_ref());
                result
            });
            match outcome.await {
                Ok(result) => publisher.record(&job, result).await,
                Err(e) => tracing::error!("{job}: its result could not be published: {e}"),
            }
        });
        true
    }

    /// Begins to publish every result that an earlier relay did not record.
    pub(super) fn publish_all_missing(&self) {
        let registry = self.repositories.registry();
        let mut jobs: BTreeSet<JobId> = self.repositories.jobs().into_iter().collect();
        self.repositories.remove_unfinished();
        jobs.extend(read::unarchived_jobs(registry).unwrap_or_default());
        for job in jobs {
            if let Ok(stored) = read::load_record(self.repositories.registry(), &job) {
                self.publish_if_missing(&stored.record);
            }
        }
    }

    /// Records that a result was applied, merged or discarded. The request may be late or forged, so it must
    /// name the result.
    pub(super) async fn set_state(&self, job: &JobId, commit: &str, state: ResultState) {
        let stored = read::load_record(self.repositories.registry(), job).ok();
        let result = stored.and_then(|stored| stored.record.result);
        let Some(result) = result.filter(|result| result.commit.as_deref() == Some(commit)) else {
            return tracing::warn!("{job}: a request names another result than it has");
        };
        if !matches!(state, ResultState::Applied | ResultState::Merged | ResultState::Discarded) {
            return tracing::warn!("{job}: a request asks for a state that no result can be given");
        }
        if state == ResultState::Discarded {
            self.remove_repositories(std::slice::from_ref(job));
        }
        self.record(job, JobResult { state, ..result }).await;
    }

    fn remove_repositories(&self, jobs: &[JobId]) {
        for job in jobs {
            if let Err(e) = self.repositories.of_job(job).remove() {
                tracing::warn!("{job}: its repository can't be removed: {e}");
            }
        }
    }

    /// Removes everything that is kept about jobs which are no longer in the registry.
    pub(super) fn forget(&self, jobs: &[JobId]) {
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

    async fn record(&self, job: &JobId, result: JobResult) {
        let body = Box::new(EventBody::Result(Box::new(result)));
        self.writer.send(WriterCommand::RecordRelayEvent { job: job.clone(), body }).await;
    }
}

/// Publishes the result of a job. A job whose repository was never made has no result.
fn publish_result(repositories: &JobRepositories, job: &JobId) -> JobResult {
    let repository = repositories.of_job(job);
    repositories.remove_pack(job);
    if repository.exists() {
        return publish::publish(&repository);
    }
    let place = read::place_of(repositories.registry(), job);
    let (branch, base) =
        place.map(|place| (place.branch().to_owned(), place.base().to_owned())).unwrap_or_default();
    JobResult::none(branch, base)
}
