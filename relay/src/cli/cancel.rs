//! `relay cancel`

use std::time::{Duration, Instant};

use clap::Args;
use common::duration;
use common::ids::JobId;
use common::record::{JobRecord, State};

use super::follow::Follow;
use super::help::after_help;
use super::{Context, candidates, job_ref};
use crate::exit::{Code, Failure};
use crate::registry::lease;
use crate::registry::requests::{self, Request};

/// Time from the end of the grace period to the final record: one round of the sweep, the report of the agent, and
/// margin for a loaded machine.
const MARGIN: Duration = Duration::from_secs(5);

/// Flags of `relay cancel`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code: 0 if all jobs have ended; 5 if no relay is running (the request is stored until `relay \
     up`); 8 if a job has not ended 5 s after the grace period.",
    ["relay cancel demo", "relay cancel --grace 30s demo#1 demo#2"]
))]
pub struct CancelArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "JOB", add = candidates::active(), required = true)]
    pub(super) jobs: Vec<String>,
    /// Time between TERM and KILL [default: that of relay.toml, else 5s]
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    pub(super) grace: Option<Duration>,
}

/// Requests the end of jobs and waits for it. Jobs that have already ended are not an error.
///
/// # Errors
/// Exit code 3 if a job does not exist, 2 if one is ambiguous. Exit code 5 if no relay is running: the request stays
/// filed and is handled by the next relay.
pub fn run(args: &CancelArgs, context: &Context) -> Result<Code, Failure> {
    let jobs = job_ref::jobs(context, &args.jobs)?;
    let grace_ms = match args.grace {
        Some(grace) => duration::millis(grace),
        None => context.config()?.limits.grace_ms,
    };
    let mut asked = Vec::new();
    for job in jobs {
        let record = job_ref::record(&context.registry, &job)?.record;
        if record.state.is_final() {
            say(context, &record, &format!("{job} had already ended: {}", record.state.as_str()));
            continue;
        }
        requests::file(&context.registry, &Request::Cancel { job: job.clone(), grace_ms })
            .map_err(|e| context.registry.not_writable(&e))?;
        asked.push(job);
    }
    if !asked.is_empty() && !lease::is_held(&context.registry) {
        return Err(Failure::unreachable(format!(
            "no relay is running: the request to cancel {} is stored until `relay up`",
            list(&asked)
        )));
    }
    // A deadline that overflows is no limit.
    let deadline = Instant::now().checked_add(Duration::from_millis(grace_ms).saturating_add(MARGIN));
    until_ended(context, asked, deadline)
}

fn until_ended(context: &Context, mut jobs: Vec<JobId>, deadline: Option<Instant>) -> Result<Code, Failure> {
    let mut follow = Follow::new(context);
    loop {
        let mut running = Vec::new();
        for job in jobs {
            let record = follow.record(&job)?.record;
            match record.state {
                State::Cancelled => say(context, &record, &format!("{job} cancelled")),
                state if state.is_final() => {
                    let text = format!("{job} ended before it could be cancelled: {}", state.as_str());
                    say(context, &record, &text);
                }
                _ => running.push(job),
            }
        }
        if running.is_empty() {
            return Ok(Code::Done);
        }
        if !follow.pause(deadline) {
            let text = format!("not ended yet: {}; see `relay status`", list(&running));
            context.output.note(&text);
            return Ok(Code::StillRunning);
        }
        jobs = running;
    }
}

fn say(context: &Context, record: &JobRecord, text: &str) {
    if context.output.json {
        context.output.json(record);
    } else {
        context.output.fact(record);
        context.output.print(text);
    }
}

fn list(jobs: &[JobId]) -> String {
    jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
