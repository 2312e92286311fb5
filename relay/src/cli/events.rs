//! `relay events`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use clap::Args;
use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::job::StepKind;

use super::follow::Follow;
use super::{Context, facts, find};
use crate::exit::{Code, Failure};
use crate::registry::event_log::Follower;
use crate::registry::read;
use crate::registry::watch::Watch;
use crate::render::event_text::{self, Setting};

/// Flags of `relay events`.
#[derive(Debug, Args)]
#[command(
    after_help = "Programs can subscribe over HTTP too: README, \"For other programs\"; `relay schema event` describes an event."
)]
pub struct EventsArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: all jobs that are not archived]
    #[arg(value_name = "JOB")]
    job: Option<String>,
    /// Go on until the job has ended; without JOB for ever
    #[arg(short, long)]
    follow: bool,
    /// Only events behind the one with this id (the `id` of --json)
    #[arg(long, value_name = "ID", default_value_t = 0)]
    since: u64,
}

/// Prints events.
///
/// # Errors
/// Exit code 3 or 2 for a job that is not there or not clear, 5 for a log that can't be read.
pub fn run(args: &EventsArgs, context: &Context) -> Result<Code, Failure> {
    match &args.job {
        Some(text) => one(args, context, &read::resolve(&context.registry, text)?)?,
        None => all(args, context)?,
    }
    Ok(Code::Done)
}

fn one(args: &EventsArgs, context: &Context, job: &JobId) -> Result<(), Failure> {
    let mut follow = args.follow.then(|| Follow::new(context));
    let mut follower = Follower::new();
    let mut steps = Steps::default();
    loop {
        // The record first: an end that it tells is in the log already.
        let stored = match &mut follow {
            Some(follow) => follow.record(job)?,
            None => find::record(&context.registry, job)?,
        };
        let lines = follower
            .next_lines(&stored.home.events(job))
            .map_err(|e| find::unreadable(job, "event log", &e))?;
        print(args, context, &lines, false, &mut steps);
        let over = stored.record.state.is_final() || context.output.is_closed();
        match &follow {
            Some(follow) if !over => follow.pause(None),
            _ => return Ok(()),
        };
    }
}

fn all(args: &EventsArgs, context: &Context) -> Result<(), Failure> {
    let watch = args.follow.then(|| Watch::new(context.registry.dir()));
    let mut logs = BTreeMap::new();
    let mut steps = Steps::default();
    loop {
        let mut lines = news(context, &mut logs)?;
        lines.sort_by_key(|(_, line)| line.id);
        print(args, context, &lines, true, &mut steps);
        match &watch {
            Some(watch) if !context.output.is_closed() => watch.wait(None),
            _ => return Ok(()),
        };
    }
}

/// A log and how long it was when it was last read.
struct Log {
    follower: Follower,
    len: u64,
}

/// What was added to any log since the last call.
fn news(context: &Context, logs: &mut BTreeMap<JobId, Log>) -> Result<Vec<(Vec<u8>, EventLine)>, Failure> {
    let registry = &context.registry;
    let jobs = read::jobs(registry).map_err(|e| {
        Failure::unreachable(format!("the registry {} can't be read: {e}", registry.dir().display()))
    })?;
    let mut lines = Vec::new();
    for job in jobs {
        let path = registry.events(&job);
        // Most logs of a large registry have not grown: their length says so without opening them.
        let len = fs::metadata(&path).map_or(0, |log| log.len());
        let log = logs.entry(job.clone()).or_insert_with(|| Log { follower: Follower::new(), len: 0 });
        if len != log.len {
            log.len = len;
            let new = log.follower.next_lines(&path);
            lines.extend(new.map_err(|e| find::unreadable(&job, "event log", &e))?);
        }
    }
    Ok(lines)
}

/// What has to be remembered of steps until they end.
#[derive(Default)]
struct Steps {
    /// The waits for the model that are under way. Between any two steps there is one, mostly of a moment: people are
    /// shown the other steps, programs everything.
    waits: BTreeSet<(JobId, u32)>,
    /// The steps under way that are part of another one.
    inside: BTreeSet<(JobId, u32)>,
}

/// How a line concerns a step.
#[derive(Default)]
struct Concern {
    /// It is the begin or the end of a wait for the model.
    wait: bool,
    /// It is the end of a step inside another one.
    inside: bool,
}

impl Steps {
    fn take(&mut self, line: &EventLine) -> Concern {
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

fn print(
    args: &EventsArgs,
    context: &Context,
    lines: &[(Vec<u8>, EventLine)],
    name_job: bool,
    steps: &mut Steps,
) {
    let view = facts::view(context);
    for (raw, line) in lines {
        let concern = steps.take(line);
        if line.id <= args.since {
            continue;
        }
        if context.output.json {
            context.output.raw(raw);
        } else if !concern.wait {
            let setting = Setting { name_job, inside: concern.inside };
            context.output.print(&event_text::line(raw, line, setting, &view));
        }
        if context.output.is_closed() {
            return;
        }
    }
}
