//! What users type → a job.

use std::collections::BTreeSet;
use std::io;

use common::ids::JobId;

use super::Context;
use crate::exit::Failure;
use crate::registry::Registry;
use crate::registry::read::{self, Stored};

/// The jobs that are meant, in the order they were typed, each once.
///
/// # Errors
/// Exit code 3 for the first that does not exist, 2 for one that is ambiguous.
pub fn jobs(context: &Context, typed: &[String]) -> Result<Vec<JobId>, Failure> {
    let (mut jobs, mut seen) = (Vec::new(), BTreeSet::new());
    for text in typed {
        let job = read::resolve(&context.registry, text)?;
        if seen.insert(job.clone()) {
            jobs.push(job);
        }
    }
    Ok(jobs)
}

/// The job that is meant, or the newest when nothing was typed.
///
/// # Errors
/// Exit code 3 when there is none.
pub fn one_or_newest(context: &Context, typed: Option<&str>) -> Result<JobId, Failure> {
    match typed {
        Some(text) => read::resolve(&context.registry, text),
        None => Ok(read::newest(&context.registry)?.record.job),
    }
}

/// A job's record.
///
/// # Errors
/// Exit code 3 when it does not exist, 5 when it can't be read.
pub fn record(registry: &Registry, job: &JobId) -> Result<Stored, Failure> {
    read::load(registry, job).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::no_such_job(format!("{job} is no longer in the registry")),
        _ => Failure::unreachable(format!("the record of {job} can't be read: {e}")),
    })
}

/// The failure of reading a job's file.
pub fn unreadable(job: &JobId, what: &str, error: &io::Error) -> Failure {
    Failure::unreachable(format!("the {what} of {job} can't be read: {error}"))
}
