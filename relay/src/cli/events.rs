//! `relay events`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::job::StepKind;
use common::record::JobRecord;

use super::follow::Follow;
use super::help::after_help;
use super::{Context, candidates, job_ref, view_context};
use crate::exit::{Code, Failure};
use crate::files::refused::Refused;
use crate::files::watch::Watch;
use crate::registry::event_log::Follower;
use crate::registry::read;
use crate::render::event_text::{self, RenderOptions};
use crate::render::{View, health};

/// Buffer size that triggers a write to stdout, in bytes.
const OUTPUT_BUFFER: usize = 64 * 1024;

/// Flags of `relay events`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Programs can also subscribe over HTTP: see `relay help events`. `relay schema event` prints the \
     JSON Schema of an event.",
    ["relay events -f demo", "relay events --json --since 1024"]
))]
pub struct EventsArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: all jobs that are not archived]
    #[arg(value_name = "JOB", add = candidates::any())]
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
pub fn run(args: &EventsArgs, context: &Context) -> Result<Code, Failure> {
    match &args.job {
        Some(text) => one(args, context, &read::resolve(&context.registry, text)?)?,
        None => all(args, context)?,
    }
    Ok(Code::Done)
}

fn one(args: &EventsArgs, context: &Context, job: &JobId) -> Result<(), Failure> {
    let mut follow = args.follow.then(|| Follow::new(context));
    let mut printer = Printer::new(args, context, false);
    let mut follower = printer.follower();
    loop {
        // The record is read first: if it shows an outcome, the log already contains it.
        let stored = match &mut follow {
            Some(follow) => follow.record(job)?,
            None => job_ref::record(&context.registry, job)?,
        };
        let path = stored.home.events(job);
        printer.print_health();
        let read = if context.output.json {
            follower.raw_lines(&path, |raw, _| printer.raw(raw))
        } else {
            follower.lines(&path, |raw, line| printer.line(raw, &line))
        };
        printer.flush();
        read.map_err(|e| job_ref::unreadable(job, "event log", &e))?;
        let over = stored.record.state.is_final() || context.output.is_closed();
        match &follow {
            Some(follow) if !over => follow.pause(None),
            Some(_) => return Ok(()),
            None => {
                printer.health(&stored.record);
                return Ok(());
            }
        };
    }
}

fn all(args: &EventsArgs, context: &Context) -> Result<(), Failure> {
    let watch = args.follow.then(|| Watch::folder(context.registry.folder()));
    let mut printer = Printer::new(args, context, true);
    let mut logs = BTreeMap::new();
    loop {
        printer.print_health();
        let mut lines = new_events(context, &printer, &mut logs)?;
        lines.sort_by_key(|line| line.id);
        for New { raw, line, .. } in &lines {
            match line {
                Some(line) => printer.line(raw, line),
                None => printer.raw(raw),
            }
        }
        printer.flush();
        match &watch {
            Some(watch) if !context.output.is_closed() => watch.wait(None),
            _ => return Ok(()),
        };
    }
}

/// A log, and its length at the last read.
struct Log {
    follower: Follower,
    len: u64,
}

/// A new line of a log.
struct New {
    id: u64,
    raw: Vec<u8>,
    /// Parsed line; `None` if only the raw line is needed.
    line: Option<EventLine>,
}

/// Returns the lines added to any log since the last call.
fn new_events(
    context: &Context,
    printer: &Printer<'_>,
    logs: &mut BTreeMap<JobId, Log>,
) -> Result<Vec<New>, Failure> {
    let registry = &context.registry;
    let jobs = read::jobs(registry).map_err(|e| registry.not_readable(&e))?;
    let mut news = Vec::new();
    for job in jobs {
        let path = registry.events(&job);
        // Most logs of a large registry have not grown. Comparing the length avoids opening them.
        let len = path.size().unwrap_or(0);
        let log = logs.entry(job.clone()).or_insert_with(|| Log { follower: printer.follower(), len: 0 });
        if len != log.len {
            log.len = len;
            let read = if context.output.json {
                log.follower.raw_lines(&path, |raw, id| news.push(New { id, raw: raw.to_vec(), line: None }))
            } else {
                let follower = &mut log.follower;
                follower.lines(&path, |raw, line| {
                    news.push(New { id: line.id, raw: raw.to_vec(), line: Some(line) });
                })
            };
            match read {
                // The events of other jobs are not affected.
                Err(e) if Refused::from_error(&e).is_some() => {
                    context.output.note(&format!("{job} skipped: {e}"));
                }
                read => read.map_err(|e| job_ref::unreadable(&job, "event log", &e))?,
            }
        }
    }
    Ok(news)
}

/// State of the active steps.
#[derive(Default)]
struct Steps {
    /// Active waits for the model. There is one between any two steps, mostly a short one: they are hidden from people,
    /// but not from programs.
    waits: BTreeSet<(JobId, u32)>,
    /// Active steps inside another step.
    inside: BTreeSet<(JobId, u32)>,
}

/// Relation of a line to a step.
#[derive(Default)]
struct Concern {
    /// True for the start or the end of a wait for the model.
    wait: bool,
    /// True for the end of a step inside another one.
    inside: bool,
}

impl Steps {
    fn add(&mut self, line: &EventLine) -> Concern {
        match line.event.as_ref().map(|event| &event.body) {
            Some(EventBody::StepStarted { n, kind, parent, .. }) => {
                let wait = *kind == StepKind::Model;
                if wait {
                    self.waits.insert((line.job.clone(), *n));
                } else if parent.is_some() {
                    self.inside.insert((line.job.clone(), *n));
                }
                Concern { wait, inside: false }
            }
            Some(EventBody::StepFinished { n, .. }) => {
                let step = (line.job.clone(), *n);
                Concern { wait: self.waits.remove(&step), inside: self.inside.remove(&step) }
            }
            _ => Concern::default(),
        }
    }
}

/// Prints lines as they arrive.
struct Printer<'a> {
    args: &'a EventsArgs,
    context: &'a Context,
    name_job: bool,
    view: View,
    steps: Steps,
    /// Buffered output, written in one call for many lines.
    ready: Vec<u8>,
}

impl<'a> Printer<'a> {
    fn new(args: &'a EventsArgs, context: &'a Context, name_job: bool) -> Self {
        let view = view_context::view(context);
        Self { args, context, name_job, view, steps: Steps::default(), ready: Vec::new() }
    }

    /// Refreshes the view: for example, the date may have changed since the last lines.
    fn print_health(&mut self) {
        if !self.context.output.json {
            self.view = view_context::view(self.context);
        }
    }

    /// Prints the health of a job that has not ended: its events alone do not show if something is wrong.
    fn health(&self, record: &JobRecord) {
        if !self.context.output.json && !record.state.is_final() {
            let health = health::health(record, &view_context::view_of(self.context, record));
            self.context.output.note(&format!("{} {health}", record.job));
        }
    }

    /// Returns a reader of a log. For programs it starts after `--since`; lines for people may depend on earlier ones.
    fn follower(&self) -> Follower {
        if self.context.output.json { Follower::since(self.args.since) } else { Follower::new() }
    }

    fn raw(&mut self, raw: &[u8]) {
        self.ready.extend_from_slice(raw);
        if self.ready.len() >= OUTPUT_BUFFER {
            self.flush();
        }
    }

    fn line(&mut self, raw: &[u8], line: &EventLine) {
        let concern = self.steps.add(line);
        if line.id <= self.args.since || concern.wait {
            return;
        }
        let setting = RenderOptions { name_job: self.name_job, inside: concern.inside };
        let text = event_text::line(raw, line, setting, &self.view);
        self.raw(text.trim_end_matches('\n').as_bytes());
        self.raw(b"\n");
    }

    fn flush(&mut self) {
        if !self.ready.is_empty() {
            self.context.output.raw(&self.ready);
            self.ready.clear();
        }
    }
}
