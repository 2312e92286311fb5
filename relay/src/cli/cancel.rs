//! `relay cancel`

use std::time::{Duration, Instant};

use clap::Args;
use common::duration;
use common::ids::JobId;
use common::record::{JobRecord, State};

use super::follow::JobFollower;
use super::help::after_help;
use super::{Context, candidates, job_ref};
use crate::exit::{ExitCode, Failure};
use crate::registry::lease;
use crate::registry::requests::{self, DaemonRequest};

/// Time from the end of the grace period to the final record: one sweep, the report of the agent, and a margin for a
/// loaded machine.
const REPORT_MARGIN: Duration = Duration::from_secs(5);

/// Flags of `relay cancel`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code: 0 if all jobs have ended; 5 if no relay is running (the request is stored until `relay \
     up`); 8 if a job has not ended 5 s after the grace period.",
    ["relay cancel demo", "relay cancel --grace 30s demo#1 demo#2"]
))]
pub struct CancelArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "JOB", add = candidates::active_jobs(), required = true)]
    pub(super) jobs: Vec<String>,
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
    let jobs = job_ref::resolve_jobs(context, &args.jobs)?;
    let grace_ms = match args.grace {
        Some(grace) => duration::to_millis(grace),
        None => context.read_config()?.limits.grace_ms,
    };
    let mut asked = Vec::new();
    for job in jobs {
        let record = job_ref::read_record(&context.registry, &job)?.record;
        if record.state.is_final() {
            print_result(context, &record, &format!("{job} had already ended: {}", record.state.as_str()));
            continue;
        }
        requests::file_request(&context.registry, &DaemonRequest::Cancel { job: job.clone(), grace_ms })
            .map_err(|e| context.registry.not_writable(&e))?;
        asked.push(job);
    }
    if !asked.is_empty() && !lease::is_held(&context.registry) {
        return Err(Failure::unreachable(format!(
            "no relay is running: the request to cancel {} is stored until `relay up`",
            join_ids(&asked)
        )));
    }
    // A deadline that overflows means no limit.
    let deadline = Instant::now().checked_add(Duration::from_millis(grace_ms).saturating_add(REPORT_MARGIN));
    wait_until_ended(context, asked, deadline)
}

fn wait_until_ended(
    context: &Context,
    mut jobs: Vec<JobId>,
    deadline: Option<Instant>,
) -> Result<ExitCode, Failure> {
    let mut follow = JobFollower::new(context);
    loop {
        let mut running = Vec::new();
        for job in jobs {
            let record = follow.read_record(&job)?.record;
            match record.state {
                State::Cancelled => print_result(context, &record, &format!("{job} cancelled")),
                state if state.is_final() => {
                    let text = format!("{job} ended before it could be cancelled: {}", state.as_str());
                    print_result(context, &record, &text);
                }
                _ => running.push(job),
            }
        }
        if running.is_empty() {
            return Ok(ExitCode::Done);
        }
        if !follow.wait_for_change(deadline) {
            let text = format!("not ended yet: {}; see `relay status`", join_ids(&running));
            context.output.print_note(&text);
            return Ok(ExitCode::StillRunning);
        }
        jobs = running;
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

fn join_ids(jobs: &[JobId]) -> String {
    jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
