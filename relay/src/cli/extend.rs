//! The command `relay extend`.

use std::time::{Duration, Instant};

use clap::Args;
use common::duration;
use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::record::{JobRecord, State};
use serde::Serialize;

use super::help::after_help;
use super::{Context, candidates, job_ref, view_context};
use crate::exit::{ExitCode, Failure};
use crate::files::watch::FolderWatch;
use crate::registry::event_log::LogFollower;
use crate::registry::requests::{self, DaemonRequest};
use crate::registry::{lease, read};
use crate::render::health;

/// Time to wait for the event that confirms the new limit.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(300);

/// Flags of `relay extend`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Each call extends the limit once. The request waits for an agent that is not connected; the limits of a \
     queued job are extended before it starts. Exit code: 0 if the request was sent; 2 if the job has ended \
     or has no such limit; 5 if no relay is running (the request is stored until `relay up`).",
    ["relay extend demo 1h", "relay extend demo 10m --step"]
))]
pub struct ExtendArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "JOB", add = candidates::active_jobs())]
    pub(super) job: String,
    /// Additional time, such as 30m
    #[arg(value_name = "D", value_parser = duration::parse_duration)]
    pub(super) additional_time: Duration,
    /// Extend the limit of the current step instead of the job's
    #[arg(long)]
    pub(super) step: bool,
}

/// Output of `relay extend --json`: a requested extension and the new limit.
#[derive(Debug, Serialize)]
struct ExtensionResult<'a> {
    job: &'a JobId,
    /// Step with the extended limit; `null` for the limit of the job.
    step: Option<u32>,
    /// Additional time, in milliseconds.
    by_ms: u64,
    /// New limit, in milliseconds; `null` if it is not confirmed yet.
    limit_ms: Option<u64>,
}

/// Extends a limit of a job that has not ended, and prints the new limit if it is confirmed in time.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous or the limit no longer exists. Exit code 5 if no relay
/// is running: the request is stored, and the next relay handles it.
pub fn run(args: &ExtendArgs, context: &Context) -> Result<ExitCode, Failure> {
    let registry = &context.registry;
    let job = read::resolve_job(registry, &args.job)?;
    let watch = FolderWatch::registry_folder(registry.folder());
    let stored = job_ref::read_record(registry, &job)?;
    refuse_impossible_extension(&stored.record, args.step)?;
    let (log, mut follower) = (stored.registry.events(&job), LogFollower::new());
    let mut new_lines =
        || follower.next_lines(&log).map_err(|e| job_ref::unreadable_file(&job, "event log", &e));
    let after = new_lines()?.last().map_or(0, |(_, line)| line.id);
    let by_ms = duration::to_millis(args.additional_time);
    let request = DaemonRequest::Extend { job: job.clone(), step: args.step, by_ms, after, to_ms: None };
    requests::file_request(registry, &request).map_err(|e| registry.not_writable(&e))?;
    if !lease::is_held(registry) {
        return Err(Failure::unreachable(format!(
            "no relay is running: the request to extend {job} is stored until `relay up`"
        )));
    }
    let deadline = Instant::now() + CONFIRM_TIMEOUT;
    loop {
        let lines = new_lines()?;
        if let Some((n, limit_ms)) = lines.iter().find_map(|(_, line)| extended_limit(line, args.step)) {
            print_extension(
                context,
                &ExtensionResult { job: &job, step: n, by_ms, limit_ms: Some(limit_ms) },
            );
            if !context.output.json {
                let record = job_ref::read_record(registry, &job)?.record;
                let view = view_context::view_of_job(context, &record);
                context.output.print_note(&format!("{job} {}", health::health(&record, &view)));
            }
            return Ok(ExitCode::Done);
        }
        if !watch.wait(Some(deadline)) {
            print_extension(context, &ExtensionResult { job: &job, step: None, by_ms, limit_ms: None });
            return Ok(ExitCode::Done);
        }
    }
}

/// Rejects the request if the job has ended or has no such limit.
fn refuse_impossible_extension(record: &JobRecord, is_step_limit: bool) -> Result<(), Failure> {
    let job = &record.job;
    let refuse = |reason: String| Err(Failure::usage(reason));
    match (record.state, &record.step) {
        (state, _) if state.is_final() => {
            refuse(format!("{job} has ended ({}): its limits no longer apply", state.as_str()))
        }
        (State::Stopping, _) => refuse(format!("{job} is being ended: its limits no longer apply")),
        (_, None) if is_step_limit => {
            refuse(format!("no step of {job} is running: omit --step to extend the limit of the job"))
        }
        (_, Some(current)) if is_step_limit && current.limit_ms.is_none() => {
            refuse(format!("step {} of {job} has no limit", current.n))
        }
        _ => Ok(()),
    }
}

/// Returns the step (`None` for the job) and the new limit in milliseconds, if the line reports such an extension.
fn extended_limit(line: &EventLine, is_step_limit: bool) -> Option<(Option<u32>, u64)> {
    match line.event.as_ref().map(|event| &event.body) {
        Some(EventBody::Extended { n, limit_ms }) if n.is_some() == is_step_limit => Some((*n, *limit_ms)),
        _ => None,
    }
}

fn print_extension(context: &Context, result: &ExtensionResult<'_>) {
    if context.output.json {
        return context.output.print_json(result);
    }
    context.output.capture_data(result);
    let (job, by) = (result.job, duration::format_limit(result.by_ms));
    match (result.limit_ms.map(duration::format_limit), result.step) {
        (Some(limit), Some(n)) => {
            context.output.print(&format!("{job} step {n} may now take {limit} (+{by})"));
        }
        (Some(limit), None) => context.output.print(&format!("{job} may now take {limit} (+{by})")),
        (None, _) => context.output.print_note(&format!(
            "requested {by} more for {job}; not confirmed yet: see `relay events {job}`"
        )),
    }
}
