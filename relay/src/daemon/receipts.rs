//! Signs the receipts of results, before a result is recorded: so every reader of a result finds the receipt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use common::event::EventBody;
use common::evidence::Evidence;
use common::ids::JobId;
use common::record::JobRecord;
use common::result::{JobResult, ResultState};

use super::writer::WriterCommand;
use crate::git::digest;
use crate::git::job_repository::JobRepository;
use crate::job_identity::JobIdentity;
use crate::receipt::statement::{Facts, Statement};
use crate::receipt::store::Receipts;

/// Maximum number of reports of evidence that wait for the end of their job. A report precedes the end by one event.
const MAX_REPORTS: usize = 1000;

/// Evidence about jobs, as agents reported it over their connections. Sessions can change the copies in the registry.
#[derive(Debug, Clone, Default)]
pub(super) struct ReceivedEvidence {
    reports: Arc<Mutex<BTreeMap<JobId, Evidence>>>,
}

impl ReceivedEvidence {
    /// Notes the evidence among an agent's events. The writer checks whether the agent may send it.
    pub(super) fn note_evidence(&self, command: &WriterCommand) {
        let WriterCommand::Events { job, batch, .. } = command else { return };
        for event in batch {
            if let EventBody::Evidence(evidence) = &event.body {
                let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
                if reports.len() < MAX_REPORTS || reports.contains_key(job) {
                    reports.insert(job.clone(), (**evidence).clone());
                }
            }
        }
    }

    /// Takes the evidence about a job that has ended, if it is the same as in the job's record.
    pub(super) fn take_evidence(&self, record: &JobRecord) -> Option<Evidence> {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let received = reports.remove(&record.job);
        received.filter(|received| record.evidence.as_ref() == Some(received))
    }
}

/// Signs the receipt of a result, if the job has changed something.
pub(super) fn write_receipt(
    receipts: &Receipts,
    repository: &JobRepository,
    record: &JobRecord,
    result: &JobResult,
    evidence: Option<&Evidence>,
) {
    let Some(commit) = result.commit.as_deref().filter(|_| result.state == ResultState::Open) else { return };
    let written = digest::digest_change(repository, &result.base, commit).map_err(|e| e.to_string());
    let written = written.and_then(|digest| {
        let statement = Statement::new(&Facts { record, result, commit, digest: &digest, evidence });
        let statement = serde_json::to_vec(&statement).map_err(|e| e.to_string())?;
        receipts.write(&JobIdentity::of(record), &statement)
    });
    if let Err(reason) = written {
        tracing::error!("{}: its receipt can't be made: {reason}", record.job);
    }
}
