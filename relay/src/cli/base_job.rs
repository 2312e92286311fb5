//! The job that `--base NAME#N` names. A new job starts from the result of that job.

use std::path::Path;

use common::ids::JobId;
use common::place::PlaceSpec;
use common::result::ResultState;

use super::{Context, job_ref, job_result};
use crate::exit::Failure;
use crate::git::source::Source;
use crate::registry::read;

/// A job whose result a new job starts from.
#[derive(Debug)]
pub(super) enum BaseJob {
    /// The job has ended with this commit as its result. The user's repository may lack the commit: the caller checks.
    Ended { commit: String },
    /// The result of the job is not known yet.
    Unfinished { job: JobId, place: PlaceSpec },
}

/// Returns the job that the value of `--base` names, as in `demo#1`. A value without `#`, such as `v1.2`, is a commit.
pub(super) fn parse_base_job(value: &str) -> Option<JobId> {
    value.parse().ok().filter(|_| value.contains('#'))
}

/// Finds the job of `--base`. The job's branch must belong to the repository of `source`.
///
/// # Errors
/// Exit code 3 if there is no such job; 2 if it has no result, or belongs to another repository.
pub(super) fn find_base_job(context: &Context, job: &JobId, source: &Source) -> Result<BaseJob, Failure> {
    let job = read::resolve_job(&context.registry, &job.to_string())?;
    let stored = job_ref::read_record(&context.registry, &job)?;
    let record = &stored.record;
    let refuse = |why: &str| Err(Failure::usage(format!("--base {job}: {why}")));
    let Some(place) = read::place_of(&stored.registry, &job) else {
        return refuse("it works in its folder and has no result; only a job with --branch has one");
    };
    let job_source = Source::find(Path::new(&record.workspace))?;
    if !job_source.is_same_repository(source) {
        return refuse(&format!("it belongs to another repository, {}", job_source.root.display()));
    }
    if !record.state.is_final() || job_result::is_pending(context, &stored) {
        return Ok(BaseJob::Unfinished { job, place });
    }
    match &record.result {
        None => refuse("its result is not there yet: it needs a running relay (`relay up`)"),
        Some(result) if result.state == ResultState::Discarded => refuse("its result was discarded"),
        Some(result) => match &result.commit {
            Some(commit) => Ok(BaseJob::Ended { commit: commit.clone() }),
            None => refuse("it changed nothing, so it has no result"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_with_a_number_sign_is_a_job() {
        assert_eq!(parse_base_job("demo#1"), Some("demo#1".parse().unwrap()));
        for commit in ["main", "v1.2", "demo", "HEAD~1", "demo#x"] {
            assert_eq!(parse_base_job(commit), None, "{commit}");
        }
    }
}
