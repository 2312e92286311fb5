//! `relay discard`

use std::path::Path;

use clap::Args;
use common::result::ResultState;
use serde_json::json;

use super::help::after_help;
use super::job_result::PlacedJob;
use super::{Context, candidates, job_result};
use crate::exit::{ExitCode, Failure};
use crate::git::discard::{self, Discarded};

/// Flags of `relay discard`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay discard demo", "relay discard demo#2 --force"]))]
pub struct DiscardArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) job: String,
    /// Remove the branch although it has moved since the job ended
    #[arg(long)]
    pub(super) force: bool,
}

/// Removes the branch of a job, and what relay keeps of its result.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, has no result, or its branch was moved or is checked
/// out, 5 if git fails.
pub fn run(args: &DiscardArgs, context: &Context) -> Result<ExitCode, Failure> {
    let job = PlacedJob::find(context, Some(&args.job))?;
    let (result, commit) = job.open_result(context)?;
    let branch = &result.branch;
    let discarded = discard::discard(Path::new(&job.record.workspace), branch, &commit, args.force)?;
    let noted = job_result::request_state(context, job.job(), &commit, ResultState::Discarded);
    let removed = discarded == Discarded::Removed;
    if context.output.json {
        context.output.print_json(&json!({"job": job.job(), "branch": branch, "removed": removed}));
    } else if removed {
        context.output.print(&format!("branch {branch} removed: the result of {} is discarded", job.job()));
    } else {
        context
            .output
            .print(&format!("the result of {} is discarded; there was no branch {branch}", job.job()));
    }
    noted?;
    Ok(ExitCode::Done)
}
