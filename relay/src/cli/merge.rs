//! The command `relay merge`.

use std::path::Path;

use clap::Args;
use common::ids::JobId;
use common::result::ResultState;
use serde::Serialize;

use super::help::after_help;
use super::job_result::PlacedJob;
use super::{Context, candidates, job_result};
use crate::exit::{ExitCode, Failure};
use crate::git::apply::Change;
use crate::git::merge;

/// Flags of `relay merge`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Merges into the branch that the work tree is on. Hooks and filters of the repository are not run. Exit code: 2 if \
     there are conflicts, or if uncommitted files would be overwritten; nothing is changed then.",
    ["relay merge demo", "relay merge demo#2 --json"]
))]
pub struct MergeArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) job: Option<String>,
}

/// Output of `relay merge --json`: a merged result.
#[derive(Debug, Serialize)]
struct MergedResult<'a> {
    job: &'a JobId,
    branch: &'a str,
    /// Commit that the work tree is at now.
    commit: &'a str,
    /// Branch that was moved; `null` for a detached HEAD.
    into: Option<&'a str>,
}

/// Merges the branch of a job into the branch that the user's work tree is on.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, has no result, or can't be merged, 5 if git fails.
pub fn run(args: &MergeArgs, context: &Context) -> Result<ExitCode, Failure> {
    let job = PlacedJob::find(context, args.job.as_deref())?;
    let (result, commit) = job.open_result(context)?;
    let change = Change { base: &result.base, commit: &commit, branch: &result.branch };
    let merged = merge::merge(Path::new(&job.record.workspace), &job.repository, change)?;
    let state_requested = job_result::request_state(context, job.job(), &commit, ResultState::Merged);
    let into = merged.branch.as_deref();
    if context.output.json {
        let (job, branch, commit) = (job.job(), &result.branch, &merged.commit);
        context.output.print_json(&MergedResult { job, branch, commit, into });
    } else {
        let (into, short) = (into.unwrap_or("HEAD"), &merged.commit[..merged.commit.len().min(12)]);
        context.output.print(&if merged.is_repeat {
            format!("{into} contains {} already", result.branch)
        } else {
            format!("{} merged into {into}, now at {short}", result.branch)
        });
    }
    state_requested?;
    Ok(ExitCode::Done)
}
