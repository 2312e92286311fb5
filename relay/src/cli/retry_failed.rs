//! The command `relay retry --failed`: launches a new job for each failed one. The new jobs depend on each other like
//! the failed ones.

use std::collections::BTreeMap;

use common::ids::JobId;

use super::job_filter::{self, JobFilter};
use super::launch;
use super::retry::{self, RetryArgs};
use super::submit::StartFlags;
use super::{Context, wait};
use crate::exit::{ExitCode, Failure};

/// Launches a job for each failed job without a follow-up, oldest first. A job that can't be launched is reported, and
/// the others are launched.
///
/// # Errors
/// Exit code 2 with `--key`, 5 if the registry can't be read. Jobs that can't be launched are no error: the result is the
/// exit code of the last one.
pub(super) fn run(args: &RetryArgs, context: &Context) -> Result<ExitCode, Failure> {
    if args.start.key.is_some() {
        return Err(Failure::usage("--key names one job: omit it with --failed"));
    }
    let since = args.since.and_then(|age| job_filter::time_before(job_filter::registry_time(context), age));
    let all = job_filter::select_jobs(context, &JobFilter::default())?;
    // Jobs are sorted from the oldest to the newest, so the map keeps the newest follow-up of each job.
    let follow_ups: BTreeMap<&JobId, &JobId> = all
        .iter()
        .filter_map(|head| head.origin.follows.as_ref().map(|follows| (&follows.job, &head.job)))
        .collect();
    let filter = JobFilter::failed_jobs(since, args.group.as_ref());
    let failed = all
        .iter()
        .filter(|head| !follow_ups.contains_key(&head.job) && filter.selects(head, &context.registry));
    let flags = StartFlags { wait: false, ..args.start.clone() };
    // Maps each failed job to its new job.
    let mut retried: BTreeMap<&JobId, JobId> = BTreeMap::new();
    let (mut code, mut has_any) = (ExitCode::Done, false);
    for head in failed {
        has_any = true;
        let launched =
            launch::launch_follow_up(context, &head.job.to_string(), &flags, |earlier, resolve_context| {
                let mut launch = retry::resolve_flags(args, earlier, resolve_context)?;
                let newest = |job| newest_follow_up(job, &retried, &follow_ups);
                launch.schedule.after = head.after.iter().filter_map(newest).collect();
                launch.schedule.base_job = head.base_job.as_ref().and_then(newest);
                Ok(launch)
            });
        match launched {
            Ok((job, _)) => drop(retried.insert(&head.job, job)),
            Err(failure) => {
                context.output.print_note(&format!("{}: {failure}", head.job));
                code = failure.code;
            }
        }
    }
    if !has_any {
        context.output.print_note("no failed job without a follow-up matches: nothing was started");
    }
    if args.start.wait && code == ExitCode::Done && !retried.is_empty() {
        return wait::wait_until_ended(context, retried.into_values().collect(), None, false);
    }
    Ok(code)
}

/// Returns the newest job that runs the task of `job` again; `None` if there is none.
fn newest_follow_up(
    job: &JobId,
    retried: &BTreeMap<&JobId, JobId>,
    follow_ups: &BTreeMap<&JobId, &JobId>,
) -> Option<JobId> {
    let mut newest = job;
    // Only follow-ups with higher numbers count, so that a forged cycle ends.
    while let Some(next) = follow_ups.get(newest).filter(|next| **next > newest) {
        newest = next;
    }
    retried.get(newest).cloned().or_else(|| (newest != job).then(|| newest.clone()))
}
