//! The command `relay wait`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use common::duration;
use common::ids::{JobId, JobName};
use common::record::State;

use super::claim_notice::claim_and_show;
use super::follow::JobFollower;
use super::help::after_help;
use super::{Context, candidates, exit_code, job_filter, job_ref, job_result, view_context};
use crate::exit::{ExitCode, Failure};
use crate::render::{health, status};

/// Flags of `relay wait`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code of the worst job: 125 (agent or container lost) before 1 (failed) before 130 \
     (cancelled) before 0 (completed); 8 if --timeout passes first.",
    ["relay wait demo#1 demo#2", "relay wait --any --timeout 30m demo api"]
))]
pub struct WaitArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(
        value_name = "JOB",
        add = candidates::active_jobs(),
        required_unless_present = "group",
        conflicts_with = "group"
    )]
    jobs: Vec<String>,
    /// Wait for the jobs of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<JobName>,
    /// Return when the first job has ended, with its exit code
    #[arg(long)]
    any: bool,
    /// Stop waiting after this time; the jobs go on
    #[arg(long, value_name = "D", value_parser = duration::parse_duration)]
    timeout: Option<Duration>,
}

/// Waits for jobs and prints the summary of each as it ends.
///
/// # Errors
/// Exit code 3 if a job does not exist, 2 if one is ambiguous, and the errors of [`wait_until_ended`].
pub fn run(args: &WaitArgs, context: &Context) -> Result<ExitCode, Failure> {
    let jobs = match &args.group {
        Some(group) => job_filter::select_group_ids(context, group)?,
        None => job_ref::resolve_jobs(context, &args.jobs)?,
    };
    wait_until_ended(context, jobs, args.timeout, args.any)
}

/// Maximum number of jobs whose health is printed when the wait times out.
const MAX_NAMED_JOBS: usize = 5;

/// Prints the health of the jobs that have not ended in time, so that no slow but healthy job is cancelled.
fn print_unfinished(context: &Context, unfinished: &BTreeSet<JobId>) -> Result<(), Failure> {
    for job in unfinished.iter().take(MAX_NAMED_JOBS) {
        let record = job_ref::read_record(&context.registry, job)?.record;
        let health = health::health(&record, &view_context::view_of_job(context, &record));
        context.output.print_note(&format!("{job} {health}"));
    }
    Ok(())
}

/// Waits until all of `jobs` have ended; with `ends_with_first`, until the first has ended.
///
/// # Errors
/// Exit code 3 if a record disappears, 5 if one can't be read.
pub fn wait_until_ended(
    context: &Context,
    jobs: Vec<JobId>,
    timeout: Option<Duration>,
    ends_with_first: bool,
) -> Result<ExitCode, Failure> {
    // A deadline that overflows means no limit.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut follower = JobFollower::new(context);
    let (mut unfinished, mut codes) = (jobs.iter().cloned().collect::<BTreeSet<JobId>>(), Vec::new());
    let (mut jobs_to_check, mut is_last_round) = (jobs, false);
    loop {
        for job in jobs_to_check {
            let stored = follower.read_record(&job)?;
            if !stored.record.state.is_final() || job_result::is_pending(context, &stored) {
                continue;
            }
            let record = stored.record;
            unfinished.remove(&job);
            claim_and_show(context, &record, "wait", || {
                if context.output.json {
                    context.output.print_json(&record);
                    return;
                }
                context.output.print(&status::summary_text(&record));
                if record.state == State::Failed {
                    context.output.print(&format!("next: {}", health::next_action(&record)));
                }
            });
            codes.push(exit_code::code_for_record(&record));
            if ends_with_first {
                return Ok(exit_code::worst_code(codes));
            }
        }
        if unfinished.is_empty() {
            return Ok(exit_code::worst_code(codes));
        }
        if is_last_round {
            let names: Vec<_> = unfinished.iter().map(ToString::to_string).collect();
            let waited = duration::format_limit(timeout.map_or(0, duration::to_millis));
            context
                .output
                .print_note(&format!("not ended after {waited}: {}; the work goes on", names.join(", ")));
            print_unfinished(context, &unfinished)?;
            return Ok(ExitCode::StillRunning);
        }
        // The last round reads every job, so that no ended job is reported as running.
        is_last_round = !follower.wait_for_change(deadline);
        jobs_to_check = if is_last_round {
            unfinished.iter().cloned().collect()
        } else {
            follower.changed_jobs(&unfinished)
        };
    }
}
