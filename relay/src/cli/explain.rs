//! `relay explain`

use clap::Args;
use common::record::Link;
use jiff::Timestamp;

use super::help::after_help;
use super::{Context, candidates, job_ref, view_context};
use crate::exit::{Code, Failure};
use crate::explain;
use crate::registry::{event_log, read};
use crate::render;

/// Flags of `relay explain`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay explain", "relay explain demo#2"]))]
pub struct ExplainArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any())]
    pub(super) job: Option<String>,
}

/// Prints where a job's time went, why it failed, and what to try.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, 5 if its log can't be read.
pub fn run(args: &ExplainArgs, context: &Context) -> Result<Code, Failure> {
    let job = match &args.job {
        Some(text) => read::resolve(&context.registry, text)?,
        None => read::newest(&context.registry)?.record.job,
    };
    // The record is read first: if it shows an outcome, the log already contains it.
    let stored = job_ref::record(&context.registry, &job)?;
    let log = match event_log::read(&stored.home.events(&job)) {
        // A job that no daemon has handled yet has no log.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => event_log::Log::default(),
        log => log.map_err(|e| job_ref::unreadable(&job, "event log", &e))?,
    };
    let view = view_context::view_of(context, &stored.record);
    let explanation = explain::explain(&stored.record, &log.lines, known_until(&stored.record, &view));
    if context.output.json {
        context.output.json(&explanation);
    } else {
        context.output.fact(&explanation);
        context.output.print(&explain::text::block(&explanation, &stored.record, &view));
    }
    Ok(Code::Done)
}

/// Returns the time up to which the state of a job is known: its last event if the daemon or the connection is lost.
fn known_until(record: &common::record::JobRecord, view: &render::View) -> Timestamp {
    let blind = !view.relay.is_heard() || record.link == Some(Link::Lost);
    if blind && record.agent.is_some() { record.last_event_at } else { view.now }
}
