//! `relay wait`

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use common::duration;
use common::ids::JobId;
use common::record::State;

use super::claim_notice::show_claimed;
use super::follow::Follow;
use super::help::after_help;
use super::{Context, candidates, exit_code, job_ref, view_context};
use crate::exit::{Code, Failure};
use crate::render::{health, status};

/// Flags of `relay wait`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code: that of the worst job, 125 (agent or container lost) before 1 (failed) before 130 \
     (cancelled) before 0 (completed); 8 if --timeout passes first.",
    ["relay wait demo#1 demo#2", "relay wait --any --timeout 30m demo api"]
))]
pub struct WaitArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "JOB", add = candidates::active(), required = true)]
    jobs: Vec<String>,
    /// Return when the first job has ended, with its exit code
    #[arg(long)]
    any: bool,
    /// Stop waiting after this time; the jobs go on
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

/// Waits for jobs and prints the summary of each as it ends.
///
/// # Errors
/// Exit code 3 if a job does not exist, 2 if one is ambiguous, and as [`until_ended`].
pub fn run(args: &WaitArgs, context: &Context) -> Result<Code, Failure> {
    let jobs = job_ref::jobs(context, &args.jobs)?;
    until_ended(context, jobs, args.timeout, args.any)
}

/// Maximum number of jobs whose health is printed when the wait times out.
const MAX_NAMED: usize = 5;

/// Prints the health of jobs that have not ended in time, so that the caller does not cancel one that is only slow.
fn print_running(context: &Context, running: &BTreeSet<JobId>) -> Result<(), Failure> {
    for job in running.iter().take(MAX_NAMED) {
        let record = job_ref::record(&context.registry, job)?.record;
        let health = health::health(&record, &view_context::view_of(context, &record));
        context.output.note(&format!("{job} {health}"));
    }
    Ok(())
}

/// Waits until all of `jobs` have ended, or with `any` the first.
///
/// # Errors
/// Exit code 3 if a record disappears, 5 if one can't be read.
pub fn until_ended(
    context: &Context,
    jobs: Vec<JobId>,
    timeout: Option<Duration>,
    any: bool,
) -> Result<Code, Failure> {
    // A deadline that overflows is no limit.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut follow = Follow::new(context);
    let (mut running, mut codes) = (jobs.iter().cloned().collect::<BTreeSet<JobId>>(), Vec::new());
    let (mut to_look_at, mut last) = (jobs, false);
    loop {
        for job in to_look_at {
            let record = follow.record(&job)?.record;
            if !record.state.is_final() {
                continue;
            }
            running.remove(&job);
            show_claimed(context, &record, "wait", || {
                if context.output.json {
                    context.output.json(&record);
                    return;
                }
                context.output.print(&status::summary(&record));
                if record.state == State::Failed {
                    context.output.print(&format!("next: {}", health::next(&record)));
                }
            });
            codes.push(exit_code::code(&record));
            if any {
                return Ok(exit_code::worst(codes));
            }
        }
        if running.is_empty() {
            return Ok(exit_code::worst(codes));
        }
        if last {
            let names: Vec<_> = running.iter().map(ToString::to_string).collect();
            let waited = duration::limit(timeout.map_or(0, duration::millis));
            context.output.note(&format!("not ended after {waited}: {}; the work goes on", names.join(", ")));
            print_running(context, &running)?;
            return Ok(Code::StillRunning);
        }
        // The last round reads every job, so that none that has ended is reported as running.
        last = !follow.pause(deadline);
        to_look_at = if last { running.iter().cloned().collect() } else { follow.changed(&running) };
    }
}
