//! Heads of records: the fields by which jobs are listed, searched and counted.
//!
//! Reading a head takes a tenth of the time of reading the record, because the other fields are only skipped.

use std::io;

use common::hold::Hold;
use common::ids::{JobId, JobName};
use common::origin::Origin;
use common::record::State;
use jiff::Timestamp;
use serde::Deserialize;

use super::Registry;
use super::read::{self, MAX_RECORD_SIZE};

/// Head of a record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordHead {
    pub job: JobId,
    pub state: State,
    pub created_at: Timestamp,
    /// Newest run of the job.
    #[serde(default)]
    pub epoch: u32,
    /// Agent of the newest run.
    #[serde(default)]
    pub agent: Option<String>,
    pub last_event_at: Timestamp,
    pub prompt_summary: String,
    pub summary: Option<String>,
    #[serde(default)]
    pub origin: Origin,
    #[serde(default)]
    pub after: Vec<JobId>,
    #[serde(default)]
    pub group: Option<JobName>,
    /// Recorded reason why a queued job waits.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Hold of a job that waits until the account can use the model.
    #[serde(default)]
    pub held: Option<Hold>,
    #[serde(default)]
    pub base_job: Option<JobId>,
}

/// Reads the heads of all readable records of a registry (not of its archive) one by one, in no particular order.
///
/// # Errors
/// Returns an error if the folder can't be read. An absent folder has no jobs.
pub fn read_heads(registry: &Registry) -> io::Result<impl Iterator<Item = RecordHead>> {
    let jobs = read::jobs_in_folder(registry)?;
    let registry = registry.clone();
    Ok(jobs.into_iter().filter_map(move |job| {
        let bytes = registry.record(&job).read(MAX_RECORD_SIZE).ok()?;
        let head: RecordHead = serde_json::from_slice(&bytes).ok()?;
        (head.job == job).then_some(head)
    }))
}
