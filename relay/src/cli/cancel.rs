//! The command `relay cancel`.

use std::time::{Duration, Instant};

use clap::Args;
use common::duration;
use common::ids::{JobId, JobName};
use common::record::{JobRecord, State};

use super::follow::JobFollower;
use super::help::after_help;
use super::job_filter::{self, JobFilter};
use super::{Context, candidates, job_ref};
use crate::exit::{ExitCode, Failure};
use crate::registry::lease;
use crate::registry::requests::{self, DaemonRequest};

/// Longest wait for the final record after the grace period: the agent ends the last processes and reports. A loaded
/// machine needs a margin.
const REPORT_MARGIN: Duration = Duration::from_secs(5);

/// Flags of `relay cancel`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code: 0 if all jobs have ended; 5 if no relay is running (the request is stored until `relay \
     up`); 8 if a job has not ended 5 s after the grace period.",
    ["relay cancel --grace 30s demo#1 demo#2", "relay cancel --group demo-1"]
))]
pub struct CancelArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(
        value_name = "JOB",
        add = candidates::active_jobs(),
        required_unless_present_any = ["group", "all"],
        conflicts_with_all = ["group", "all"]
    )]
    pub(super) jobs: Vec<String>,
    /// Cancel the jobs of this group
    #[arg(long, value_name = "GROUP", conflicts_with = "all")]
    pub(super) group: Option<JobName>,
    /// Cancel every job
    #[arg(long)]
    pub(super) all: bool,
    /// Time between TERM and KILL [default: as in relay.toml, else 5s]
    #[arg(long, value_name = "D", value_parser = duration::parse_duration)]
    pub(super) grace: Option<Duration>,
}

/// Requests the cancellation of jobs and waits until they have ended. Jobs that have already ended are not an error.
///
/// # Errors
/// Exit code 3 if a job does not exist, 2 if one is ambiguous. Exit code 5 if no relay is running: the request is
/// stored, and the next relay handles it.
pub fn run(args: &CancelArgs, context: &Context) -> Result<ExitCode, Failure> {
    let jobs = find_jobs(args, context)?;
    let grace_ms = match args.grace {
        Some(grace) => duration::to_millis(grace),
        None => context.read_config()?.limits.grace_ms,
    };
    let mut requested = Vec::new();
    for job in jobs {
        let record = job_ref::read_record(&context.registry, &job)?.record;
        if record.state.is_final() {
            print_result(context, &record, &format!("{job} had already ended: {}", record.state.as_str()));
            continue;
        }
        requests::file_request(&context.registry, &DaemonRequest::Cancel { job: job.clone(), grace_ms })
            .map_err(|e| context.registry.not_writable(&e))?;
        requested.push(job);
    }
    if !requested.is_empty() && !lease::is_held(&context.registry) {
        return Err(Failure::unreachable(format!(
            "no relay is running: the request to cancel {} is stored until `relay up`",
            job_ref::join_ids(&requested)
        )));
    }
    // A deadline that overflows means no limit.
    let deadline = Instant::now().checked_add(Duration::from_millis(grace_ms).saturating_add(REPORT_MARGIN));
    wait_until_ended(context, requested, deadline)
}

/// Finds the jobs to cancel: the named ones, or those of the group or of the registry that have not ended.
fn find_jobs(args: &CancelArgs, context: &Context) -> Result<Vec<JobId>, Failure> {
    let heads = match &args.group {
        Some(group) => job_filter::select_group(context, group)?,
        None if args.all => job_filter::select_jobs(context, &JobFilter::unfinished_jobs())?,
        None => return job_ref::resolve_jobs(context, &args.jobs),
    };
    let active = heads.into_iter().filter(|head| !head.state.is_final());
    // The newest jobs come first, so that no job fails because one that it waits for is cancelled before it.
    let jobs: Vec<JobId> = active.rev().map(|head| head.job).collect();
    if jobs.is_empty() {
        let of_group = args.group.as_ref().map(|group| format!(" of group {group}")).unwrap_or_default();
        context.output.print_note(&format!("no job{of_group} is queued or running"));
    }
    Ok(jobs)
}

fn wait_until_ended(
    context: &Context,
    mut jobs: Vec<JobId>,
    deadline: Option<Instant>,
) -> Result<ExitCode, Failure> {
    let mut follower = JobFollower::new(context);
    loop {
        let mut unfinished = Vec::new();
        for job in jobs {
            let record = follower.read_record(&job)?.record;
            match record.state {
                State::Cancelled => print_result(context, &record, &format!("{job} cancelled")),
                state if state.is_final() => {
                    let text = format!("{job} ended before it could be cancelled: {}", state.as_str());
                    print_result(context, &record, &text);
                }
                _ => unfinished.push(job),
            }
        }
        if unfinished.is_empty() {
            return Ok(ExitCode::Done);
        }
        if !follower.wait_for_change(deadline) {
            let text = format!("not ended yet: {}; see `relay status`", job_ref::join_ids(&unfinished));
            context.output.print_note(&text);
            return Ok(ExitCode::StillRunning);
        }
        jobs = unfinished;
    }
}

fn print_result(context: &Context, record: &JobRecord, text: &str) {
    if context.output.json {
        context.output.print_json(record);
    } else {
        context.output.capture_data(record);
        context.output.print(text);
    }
}
