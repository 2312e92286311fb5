//! `relay status`

use clap::Args;
use common::record::{JobRecord, State};

use super::{Context, complete, facts, find, outcome};
use crate::exit::{Code, Failure};
use crate::registry::kin;
use crate::registry::read::{self, Stored};
use crate::render::health::{self, Word};
use crate::render::{Relay, View, history, list, status, table};

/// How many jobs are listed unless -n or -a says otherwise.
const LISTED: usize = 10;

/// Flags of `relay status`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct StatusArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: a list of what runs and the newest ends]
    #[arg(value_name = "JOB", add = complete::any())]
    pub(super) jobs: Vec<String>,
    /// The newest job
    #[arg(long, conflicts_with = "jobs")]
    pub(super) latest: bool,
    /// List every job, archived ones too
    #[arg(short, long)]
    pub(super) all: bool,
    /// List this many jobs [default: 10]
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<usize>,
    /// List the jobs that JOB is linked to by `relay resume` and `relay retry`, oldest first
    #[arg(long)]
    pub(super) history: bool,
    /// Exit with the state: 0 completed, 1 failed, 8 still running, 125 agent or container lost, 130 cancelled
    #[arg(long)]
    pub(super) exit_code: bool,
}

/// Prints how jobs are.
///
/// # Errors
/// Exit code 3 or 2 for a job that is not there or not clear, 5 for a registry that can't be read.
pub fn run(args: &StatusArgs, context: &Context) -> Result<Code, Failure> {
    if args.latest && !args.history {
        // Straight to the record: no listing, no configuration.
        return Ok(show(args, context, &[read::newest(&context.registry)?.record]));
    }
    if args.jobs.is_empty() {
        if args.history {
            return Ok(history(context, &[read::newest(&context.registry)?.record]));
        }
        if args.exit_code {
            return Err(Failure::usage("--exit-code needs a JOB or --latest"));
        }
        return list(args, context);
    }
    let mut records = Vec::new();
    for job in find::jobs(context, &args.jobs)? {
        records.push(find::record(&context.registry, &job)?.record);
    }
    if args.history {
        return Ok(history(context, &records));
    }
    Ok(show(args, context, &records))
}

/// Each job in detail.
fn show(args: &StatusArgs, context: &Context, records: &[JobRecord]) -> Code {
    for (i, record) in records.iter().enumerate() {
        if context.output.json {
            context.output.json(record);
            continue;
        }
        let gap = if i > 0 { "\n" } else { "" };
        let view = facts::view_of(context, record);
        context.output.fact(record);
        let before = kin::before(&context.registry, record);
        let after = kin::after(&context.registry, &record.job);
        let linked = history::row(record, &before, &after, &view).unwrap_or_default();
        context.output.print(&format!("{gap}{}{linked}", status::block(record, &view)));
    }
    if args.exit_code { outcome::worst(records.iter().map(outcome::code)) } else { Code::Done }
}

/// What the jobs are linked to, each job once.
fn history(context: &Context, records: &[JobRecord]) -> Code {
    let mut linked: Vec<JobRecord> =
        records.iter().flat_map(|record| kin::whole(&context.registry, record)).collect();
    linked.sort_by(|a, b| a.job.cmp(&b.job));
    linked.dedup_by(|a, b| a.job == b.job);
    if context.output.json {
        for record in &linked {
            context.output.json(record);
        }
    } else {
        context.output.print(&table::of(&linked, &facts::view(context)));
    }
    Code::Done
}

fn list(args: &StatusArgs, context: &Context) -> Result<Code, Failure> {
    let registry = &context.registry;
    let unreadable = |e: std::io::Error| {
        Failure::unreachable(format!("the registry {} can't be read: {e}", registry.dir().display()))
    };
    let mut stored = read::records(registry).map_err(unreadable)?;
    let mut view = facts::view(context);
    view.queue = facts::queue(&stored);
    if args.all {
        stored.extend(read::records(&registry.archived()).map_err(unreadable)?);
    }
    let limit = args.lines.unwrap_or(if args.all { usize::MAX } else { LISTED });
    let (records, hidden) = choose(stored, limit);
    if context.output.json {
        for record in &records {
            context.output.json(record);
        }
        return Ok(Code::Done);
    }
    for record in &records {
        context.output.fact(record);
    }
    if records.is_empty() {
        context.output.note("no jobs yet: `relay launch -w DIR \"task\"` starts one");
    } else if let Some(columns) = view.columns {
        context.output.print(&list::of(&records, &view, columns));
    } else {
        context.output.print(&table::of(&records, &view));
        advise(context, &records, &view);
    }
    if hidden > 0 {
        context
            .output
            .note(&format!("{hidden} more that have not ended: `relay status -n {}`", limit + hidden));
    }
    if view.relay == Relay::Down && records.iter().any(|record| !record.state.is_final()) {
        context
            .output
            .note("not running: what has not ended may be further than shown; `relay up` starts it");
    }
    Ok(Code::Done)
}

/// What a reader who is no person might otherwise do to jobs that are fine: watch them, or end them.
fn advise(context: &Context, records: &[JobRecord], view: &View) {
    let mut words = records.iter().map(|record| health::of(record, view).word).peekable();
    let fine = |word: Word| matches!(word, Word::Healthy | Word::Queued | Word::Ended);
    if words.all(fine) && records.iter().any(|record| !record.state.is_final()) {
        context.output.note("nothing to do now: what is healthy or queued goes on by itself");
    }
}

/// The jobs to list, and how many that have not ended find no room: first what runs, then what is queued, then the newest
/// ends.
fn choose(stored: Vec<Stored>, limit: usize) -> (Vec<JobRecord>, usize) {
    let (ended, mut active): (Vec<_>, Vec<_>) =
        stored.into_iter().map(|stored| stored.record).partition(|record| record.state.is_final());
    active.sort_by_key(|record| match record.state {
        // The next one to start first.
        State::Queued => Some((record.created_at, record.job.clone())),
        _ => None,
    });
    let hidden = active.len().saturating_sub(limit);
    (active.into_iter().chain(ended).take(limit).collect(), hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use crate::render::samples;

    fn stored(job: &str, state: State) -> Stored {
        Stored { record: samples::bare(job, state), home: Registry::of("/r".as_ref()) }
    }

    #[test]
    fn what_has_not_ended_is_listed_before_the_newest_ends() {
        let chosen = |limit| {
            let all = vec![
                stored("d#1", State::Completed),
                stored("c#2", State::Queued),
                stored("c#1", State::Queued),
                stored("b#1", State::Failed),
                stored("a#1", State::Running),
            ];
            let (records, hidden) = choose(all, limit);
            (records.iter().map(|record| record.job.to_string()).collect::<Vec<_>>().join(" "), hidden)
        };
        assert_eq!(chosen(4), ("a#1 c#1 c#2 d#1".to_owned(), 0));
        assert_eq!(chosen(2), ("a#1 c#1".to_owned(), 1));
        assert_eq!(chosen(usize::MAX), ("a#1 c#1 c#2 d#1 b#1".to_owned(), 0));
    }
}
