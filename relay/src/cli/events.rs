//! The command `relay events`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::job::StepKind;
use common::record::JobRecord;

use super::follow::JobFollower;
use super::help::after_help;
use super::{Context, candidates, job_ref, view_context};
use crate::exit::{ExitCode, Failure};
use crate::files::refused::RefusedEntry;
use crate::files::watch::FolderWatch;
use crate::registry::event_log::LogFollower;
use crate::registry::read;
use crate::render::event_text::{self, RenderOptions};
use crate::render::{View, health};

/// Size of the output buffer that triggers a write to stdout, in bytes.
const OUTPUT_BUFFER_SIZE: usize = 64 * 1024;

/// Flags of `relay events`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Programs can also subscribe over HTTP: see `relay help events`. `relay schema event` prints the \
     JSON Schema of an event.",
    ["relay events -f demo", "relay events --json --since 1024"]
))]
pub struct EventsArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: all jobs that are not archived]
    #[arg(value_name = "JOB", add = candidates::any_job())]
    job: Option<String>,
    /// Follow until the job has ended; without JOB, follow forever
    #[arg(short, long)]
    follow: bool,
    /// Only events after this id (`id` in --json)
    #[arg(long, value_name = "ID", default_value_t = 0)]
    since: u64,
}

/// Prints events.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, 5 if a log can't be read.
pub fn run(args: &EventsArgs, context: &Context) -> Result<ExitCode, Failure> {
    match &args.job {
        Some(text) => print_job_events(args, context, &read::resolve_job(&context.registry, text)?)?,
        None => print_all_events(args, context)?,
    }
    Ok(ExitCode::Done)
}

fn print_job_events(args: &EventsArgs, context: &Context, job: &JobId) -> Result<(), Failure> {
    let mut job_follower = args.follow.then(|| JobFollower::new(context));
    let mut printer = EventPrinter::new(args, context, false);
    let mut log_follower = printer.open_follower();
    loop {
        // The record is read first: if it shows an outcome, the log already contains it.
        let stored = match &mut job_follower {
            Some(follower) => follower.read_record(job)?,
            None => job_ref::read_record(&context.registry, job)?,
        };
        let path = stored.registry.events(job);
        printer.refresh_view();
        let read = if context.output.json {
            log_follower.visit_raw_lines(&path, |raw, _| printer.print_raw(raw))
        } else {
            log_follower.visit_lines(&path, |raw, line| printer.print_line(raw, &line))
        };
        printer.flush();
        read.map_err(|e| job_ref::unreadable_file(job, "event log", &e))?;
        let is_over = stored.record.state.is_final() || context.output.is_closed();
        match &job_follower {
            Some(follower) if !is_over => follower.wait_for_change(None),
            Some(_) => return Ok(()),
            None => {
                printer.print_job_health(&stored.record);
                return Ok(());
            }
        };
    }
}

fn print_all_events(args: &EventsArgs, context: &Context) -> Result<(), Failure> {
    let watch = args.follow.then(|| FolderWatch::registry_folder(context.registry.folder()));
    let mut printer = EventPrinter::new(args, context, true);
    let mut logs = BTreeMap::new();
    loop {
        printer.refresh_view();
        let mut lines = new_events(context, &printer, &mut logs)?;
        lines.sort_by_key(|line| line.id);
        for NewLine { bytes: raw, parsed: line, .. } in &lines {
            match line {
                Some(line) => printer.print_line(raw, line),
                None => printer.print_raw(raw),
            }
        }
        printer.flush();
        match &watch {
            Some(watch) if !context.output.is_closed() => watch.wait(None),
            _ => return Ok(()),
        };
    }
}

/// An event log, with its length in bytes at the last read.
struct FollowedLog {
    follower: LogFollower,
    last_length: u64,
}

/// A new line of an event log.
struct NewLine {
    id: u64,
    bytes: Vec<u8>,
    /// Parsed line; `None` if only the raw line is needed.
    parsed: Option<EventLine>,
}

/// Returns the lines that were added to the logs of all jobs since the last call.
fn new_events(
    context: &Context,
    printer: &EventPrinter<'_>,
    logs: &mut BTreeMap<JobId, FollowedLog>,
) -> Result<Vec<NewLine>, Failure> {
    let registry = &context.registry;
    let jobs = read::jobs_in_folder(registry).map_err(|e| registry.not_readable(&e))?;
    let mut new_lines = Vec::new();
    for job in jobs {
        let path = registry.events(&job);
        // Most logs of a large registry have not grown. Comparing the length avoids opening them.
        let len = path.size().unwrap_or(0);
        let log = logs
            .entry(job.clone())
            .or_insert_with(|| FollowedLog { follower: printer.open_follower(), last_length: 0 });
        if len != log.last_length {
            log.last_length = len;
            let read = if context.output.json {
                log.follower.visit_raw_lines(&path, |raw, id| {
                    new_lines.push(NewLine { id, bytes: raw.to_vec(), parsed: None });
                })
            } else {
                let follower = &mut log.follower;
                follower.visit_lines(&path, |raw, line| {
                    new_lines.push(NewLine { id: line.id, bytes: raw.to_vec(), parsed: Some(line) });
                })
            };
            match read {
                // A log that must not be opened, such as a link, does not hide the events of other jobs.
                Err(e) if RefusedEntry::from_error(&e).is_some() => {
                    context.output.print_note(&format!("{job} skipped: {e}"));
                }
                read => read.map_err(|e| job_ref::unreadable_file(&job, "event log", &e))?,
            }
        }
    }
    Ok(new_lines)
}

/// The active steps whose lines are not printed like others.
#[derive(Default)]
struct ActiveSteps {
    /// Active waits for the model. They are frequent and mostly short, so only --json shows them.
    model_waits: BTreeSet<(JobId, u32)>,
    /// Active steps inside another step.
    nested_steps: BTreeSet<(JobId, u32)>,
}

/// Relation of a line to a step.
#[derive(Default)]
struct StepRelation {
    /// True for the start or the end of a wait for the model.
    is_model_wait: bool,
    /// True for the end of a step inside another one.
    ends_nested_step: bool,
}

impl ActiveSteps {
    fn update(&mut self, line: &EventLine) -> StepRelation {
        match line.event.as_ref().map(|event| &event.body) {
            Some(EventBody::StepStarted { n, kind, parent, .. }) => {
                let is_model_wait = *kind == StepKind::Model;
                if is_model_wait {
                    self.model_waits.insert((line.job.clone(), *n));
                } else if parent.is_some() {
                    self.nested_steps.insert((line.job.clone(), *n));
                }
                StepRelation { is_model_wait, ends_nested_step: false }
            }
            Some(EventBody::StepFinished { n, .. }) => {
                let step = (line.job.clone(), *n);
                StepRelation {
                    is_model_wait: self.model_waits.remove(&step),
                    ends_nested_step: self.nested_steps.remove(&step),
                }
            }
            _ => StepRelation::default(),
        }
    }
}

/// Printer of event lines, and its state.
struct EventPrinter<'a> {
    args: &'a EventsArgs,
    context: &'a Context,
    shows_job_name: bool,
    view: View,
    steps: ActiveSteps,
    /// Buffered output, written in one call for many lines.
    output_buffer: Vec<u8>,
}

impl<'a> EventPrinter<'a> {
    fn new(args: &'a EventsArgs, context: &'a Context, shows_job_name: bool) -> Self {
        let view = view_context::current_view(context);
        Self { args, context, shows_job_name, view, steps: ActiveSteps::default(), output_buffer: Vec::new() }
    }

    /// Updates the view with which events are formatted. JSON needs none.
    fn refresh_view(&mut self) {
        if !self.context.output.json {
            self.view = view_context::current_view(self.context);
        }
    }

    /// Prints the health of a job that has not ended, because its events alone do not show a problem.
    fn print_job_health(&self, record: &JobRecord) {
        if !self.context.output.json && !record.state.is_final() {
            let health = health::health(record, &view_context::view_of_job(self.context, record));
            self.context.output.print_note(&format!("{} {health}", record.job));
        }
    }

    /// Returns a reader of an event log. With --json the reader starts after `--since`; otherwise at the beginning,
    /// because the display of a line may depend on earlier lines.
    fn open_follower(&self) -> LogFollower {
        if self.context.output.json {
            LogFollower::starting_after(self.args.since)
        } else {
            LogFollower::new()
        }
    }

    fn print_raw(&mut self, raw: &[u8]) {
        self.output_buffer.extend_from_slice(raw);
        if self.output_buffer.len() >= OUTPUT_BUFFER_SIZE {
            self.flush();
        }
    }

    fn print_line(&mut self, raw: &[u8], line: &EventLine) {
        let relation = self.steps.update(line);
        if line.id <= self.args.since || relation.is_model_wait {
            return;
        }
        let options =
            RenderOptions { shows_job_name: self.shows_job_name, is_nested_step: relation.ends_nested_step };
        let text = event_text::event_line(raw, line, options, &self.view);
        self.print_raw(text.trim_end_matches('\n').as_bytes());
        self.print_raw(b"\n");
    }

    fn flush(&mut self) {
        if !self.output_buffer.is_empty() {
            self.context.output.print_raw(&self.output_buffer);
            self.output_buffer.clear();
        }
    }
}
