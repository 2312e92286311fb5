//! The command `relay explain`.

use clap::Args;
use common::record::Link;
use jiff::Timestamp;

use super::help::after_help;
use super::{Context, candidates, job_ref, view_context};
use crate::exit::{ExitCode, Failure};
use crate::explain;
use crate::registry::{event_log, read};
use crate::render;

/// Flags of `relay explain`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay explain", "relay explain demo#2"]))]
pub struct ExplainArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) job: Option<String>,
}

/// Prints where a job's time went, why it failed, and what to try.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, 5 if its log can't be read.
pub fn run(args: &ExplainArgs, context: &Context) -> Result<ExitCode, Failure> {
    let job = match &args.job {
        Some(text) => read::resolve_job(&context.registry, text)?,
        None => read::newest_job(&context.registry)?.record.job,
    };
    // The record is read first: if it shows an outcome, the log already contains it.
    let stored = job_ref::read_record(&context.registry, &job)?;
    let log = match event_log::read_log(&stored.registry.events(&job)) {
        // A job that no daemon has handled yet has no log.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => event_log::LogContent::default(),
        log => log.map_err(|e| job_ref::unreadable_file(&job, "event log", &e))?,
    };
    let view = view_context::view_of_job(context, &stored.record);
    let explanation = explain::explain(&stored.record, &log.lines, state_known_until(&stored.record, &view));
    if context.output.json {
        context.output.print_json(&explanation);
    } else {
        context.output.capture_data(&explanation);
        context.output.print(&explain::text::format_explanation(&explanation, &stored.record, &view));
    }
    Ok(ExitCode::Done)
}

/// Returns the time up to which the state of a job is known: now, or the time of its last event if no news can arrive.
fn state_known_until(record: &common::record::JobRecord, view: &render::View) -> Timestamp {
    let has_no_news = !view.relay.is_reporting() || record.link == Some(Link::Lost);
    if has_no_news && record.agent.is_some() { record.last_event_at } else { view.now }
}
