//! Flags that let a job wait for other jobs, and for a free slot of its group.

use clap::Args;
use common::event::MAX_AFTER;
use common::ids::{JobId, JobName};

use super::{Context, candidates, job_ref};
use crate::exit::Failure;
use crate::registry::create::{Group, Schedule};

/// Flags for what a job waits for.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ScheduleFlags {
    /// Start after JOB has completed; if JOB fails or is cancelled, the new job fails at once, even if JOB is
    /// retried; repeatable
    #[arg(long, value_name = "JOB", add = candidates::any_job())]
    pub(super) after: Vec<String>,
    /// Group of the job; `[groups]` in relay.toml limits the jobs of a group that run at once
    #[arg(long, value_name = "GROUP")]
    pub(super) group: Option<JobName>,
}

impl ScheduleFlags {
    /// Finds the jobs that the flags name.
    ///
    /// # Errors
    /// Exit code 3 if a job does not exist, 2 if one is ambiguous or there are too many.
    pub(super) fn resolve(&self, context: &Context) -> Result<Schedule, Failure> {
        Ok(Schedule {
            after: resolve_after(&self.after, context)?,
            base_job: None,
            group: self.group.clone().map_or(Group::None, Group::Named),
        })
    }
}

/// Finds the jobs of `--after`.
///
/// # Errors
/// Exit code 3 if a job does not exist, 2 if one is ambiguous or there are too many.
pub(super) fn resolve_after(user_input: &[String], context: &Context) -> Result<Vec<JobId>, Failure> {
    let after = job_ref::resolve_jobs(context, user_input)?;
    // --base may add another job.
    if after.len() >= MAX_AFTER {
        return Err(Failure::usage(format!(
            "--after names {} jobs: a job waits for less than {MAX_AFTER}",
            after.len()
        )));
    }
    Ok(after)
}
