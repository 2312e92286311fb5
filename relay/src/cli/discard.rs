//! The command `relay discard`.

use std::path::Path;

use clap::Args;
use common::ids::JobName;
use common::result::{JobResult, ResultState};
use serde_json::json;

use super::help::after_help;
use super::job_result::PlacedJob;
use super::{Context, candidates, job_filter, job_ref, job_result};
use crate::exit::{ExitCode, Failure};
use crate::git::discard::{self, DiscardOutcome};

/// Flags of `relay discard`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay discard demo#2 --force", "relay discard --group demo-1"]))]
pub struct DiscardArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(
        value_name = "JOB",
        add = candidates::any_job(),
        required_unless_present = "group",
        conflicts_with = "group"
    )]
    pub(super) job: Option<String>,
    /// Discard the results of this group that were neither taken nor discarded
    #[arg(long, value_name = "GROUP")]
    pub(super) group: Option<JobName>,
    /// Remove the branch although it has moved since the job ended
    #[arg(long)]
    pub(super) force: bool,
}

/// Removes the branches of jobs, and lets the daemon remove the results that it keeps.
///
/// # Errors
/// Exit code 3 if the job or group does not exist, 2 if the job is ambiguous, has no result, or its branch was moved or
/// is checked out, 5 if git fails.
pub fn run(args: &DiscardArgs, context: &Context) -> Result<ExitCode, Failure> {
    match &args.group {
        Some(group) => discard_group(group, args.force, context),
        None => discard_job(args.job.as_deref(), args.force, context).map(|()| ExitCode::Done),
    }
}

/// Discards the results of a group that were neither taken nor discarded. A result that can't be discarded is reported,
/// and the others are discarded.
fn discard_group(group: &JobName, is_forced: bool, context: &Context) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::Done;
    let mut has_any = false;
    for head in job_filter::select_group(context, group)? {
        let record = job_ref::read_record(&context.registry, &head.job)?.record;
        if !record.result.as_ref().is_some_and(JobResult::is_open) {
            continue;
        }
        has_any = true;
        if let Err(failure) = discard_job(Some(&head.job.to_string()), is_forced, context) {
            context.output.print_note(&format!("{}: {failure}", head.job));
            code = failure.code;
        }
    }
    if !has_any {
        context.output.print_note(&format!("group {group} has no result to discard"));
    }
    Ok(code)
}

fn discard_job(job: Option<&str>, is_forced: bool, context: &Context) -> Result<(), Failure> {
    let job = PlacedJob::find(context, job)?;
    let (result, commit) = job.open_result(context)?;
    let branch = &result.branch;
    let discarded = discard::discard(Path::new(&job.record.workspace), branch, &commit, is_forced)?;
    let state_requested = job_result::request_state(context, job.job(), &commit, ResultState::Discarded);
    let removed = discarded == DiscardOutcome::Removed;
    if context.output.json {
        context.output.print_json(&json!({"job": job.job(), "branch": branch, "removed": removed}));
    } else if removed {
        context.output.print(&format!("branch {branch} removed: the result of {} is discarded", job.job()));
    } else {
        context
            .output
            .print(&format!("the result of {} is discarded; there was no branch {branch}", job.job()));
    }
    state_requested
}
