//! Resolution of job names and ids in user input.

use std::collections::BTreeSet;
use std::io;

use common::ids::JobId;

use super::Context;
use crate::exit::Failure;
use crate::registry::Registry;
use crate::registry::read::{self, StoredRecord};

/// Resolves the jobs that the user named, in the given order and without duplicates.
///
/// # Errors
/// Exit code 3 for the first job that does not exist, 2 for the first ambiguous one.
pub fn resolve_jobs(context: &Context, user_input: &[String]) -> Result<Vec<JobId>, Failure> {
    let (mut jobs, mut known) = (Vec::new(), BTreeSet::new());
    for text in user_input {
        let job = read::resolve_job(&context.registry, text)?;
        if known.insert(job.clone()) {
            jobs.push(job);
        }
    }
    Ok(jobs)
}

/// Resolves the job that the user named; without a name, returns the newest job.
///
/// # Errors
/// Exit code 3 if there is no such job, 2 if the name is ambiguous.
pub fn resolve_job_or_newest(context: &Context, user_input: Option<&str>) -> Result<JobId, Failure> {
    match user_input {
        Some(text) => read::resolve_job(&context.registry, text),
        None => Ok(read::newest_job(&context.registry)?.record.job),
    }
}

/// Reads a job's record.
///
/// # Errors
/// Exit code 3 if the record does not exist, 5 if it can't be read.
pub fn read_record(registry: &Registry, job: &JobId) -> Result<StoredRecord, Failure> {
    read::load_record(registry, job).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::no_such_job(format!("{job} is no longer in the registry")),
        _ => Failure::unreachable(format!("the record of {job} can't be read: {e}")),
    })
}

/// Formats a list of jobs, as in `demo#1, demo#2`.
pub fn join_ids(jobs: &[JobId]) -> String {
    jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the failure for a job's file that can't be read.
pub fn unreadable_file(job: &JobId, what: &str, error: &io::Error) -> Failure {
    Failure::unreachable(format!("the {what} of {job} can't be read: {error}"))
}
