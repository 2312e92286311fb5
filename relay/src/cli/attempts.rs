//! `relay launch --attempts N`: several jobs with the same task, each in a clone of its own.

use std::fs::File;

use common::ids::{JobId, JobName};
use common::record::JobRecord;

use super::resolve::Launch;
use super::submit::{self, LaunchTarget, StartFlags};
use super::{Context, job_ref, wait};
use crate::exit::{ExitCode, Failure};
use crate::registry::create::{CreateResult, Group};

/// Launches the attempts as one group, which is named after the first of them unless the user has named one.
///
/// # Errors
/// The errors of `relay launch`. If some attempts were launched before the failure, the message names them.
pub(super) fn launch_attempts(
    context: &Context,
    launch: &Launch,
    pack: Option<&File>,
    target: &LaunchTarget,
    (attempts, flags): (u32, &StartFlags),
) -> Result<ExitCode, Failure> {
    submit::refuse_without_codex(launch, target)?;
    let mut launch = launch.clone();
    if launch.schedule.group == Group::None {
        launch.schedule.group = Group::NamedAfterJob;
    }
    let place = launch.place.clone();
    let mut jobs: Vec<JobId> = Vec::new();
    for n in 1..=attempts {
        if let Some(place) = place.as_ref().filter(|place| place.is_named) {
            launch.place = Some(place.for_attempt(n).map_err(Failure::usage)?);
        }
        let key = flags.key.as_ref().map(|key| format!("{key} (attempt {n})"));
        let created = submit::submit_job(context, &launch, pack, target, key.as_deref());
        let (CreateResult::New(job) | CreateResult::Existing(job)) = created
            .map_err(|failure| if jobs.is_empty() { failure } else { add_launched_jobs(failure, &jobs) })?;
        if let (Group::NamedAfterJob, Some(group)) = (&launch.schedule.group, group_of(context, &job)?) {
            launch.schedule.group = Group::Named(group);
        }
        jobs.push(job);
    }
    submit::start_relay_if_needed(context, target, flags);
    print_launched_jobs(context, &jobs, flags)?;
    context.output.check_written().map_err(|failure| add_launched_jobs(failure, &jobs))?;
    if flags.wait { wait::wait_until_ended(context, jobs, None, false) } else { Ok(ExitCode::Done) }
}

fn group_of(context: &Context, job: &JobId) -> Result<Option<JobName>, Failure> {
    Ok(job_ref::read_record(&context.registry, job)?.record.group)
}

fn add_launched_jobs(failure: Failure, jobs: &[JobId]) -> Failure {
    let verb = if jobs.len() == 1 { "was" } else { "were" };
    failure.with_work_done(&format!("{} {verb} launched", job_ref::join_ids(jobs)))
}

fn print_launched_jobs(context: &Context, jobs: &[JobId], flags: &StartFlags) -> Result<(), Failure> {
    let output = &context.output;
    if flags.quiet && !output.json {
        for job in jobs {
            output.print(&job.to_string());
        }
        return Ok(());
    }
    let records: Vec<JobRecord> = jobs
        .iter()
        .map(|job| Ok(job_ref::read_record(&context.registry, job)?.record))
        .collect::<Result<_, Failure>>()?;
    if output.json {
        for record in &records {
            output.print_json(record);
        }
        return Ok(());
    }
    for record in &records {
        output.capture_data(record);
    }
    let group = records.first().and_then(|record| record.group.as_ref());
    let group = group.map(ToString::to_string).unwrap_or_default();
    output.print(&format!(
        "Workers {} launched as group {group}; ask for status anytime.\n`relay compare {group}` compares their results.",
        job_ref::join_ids(jobs)
    ));
    Ok(())
}
