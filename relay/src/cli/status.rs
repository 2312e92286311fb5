//! The command `relay status`.

use clap::Args;
use common::event::{JobError, Queued};
use common::hold::Hold;
use common::ids::JobId;
use common::record::{JobRecord, MAX_STEPS, State};
use common::text_format::truncate;
use common::warnings::Warnings;
use jiff::Timestamp;

use super::help::after_help;
use super::job_filter::FilterFlags;
use super::{Context, candidates, exit_code, job_ref, view_context};
use crate::exit::{ExitCode, Failure};
use crate::registry::heads::{self, RecordHead};
use crate::registry::lease::{self, PlatformStatus};
use crate::registry::queue::{Queue, QueueRow};
use crate::registry::{lineage, read};
use crate::render::health::{self, HealthWord};
use crate::render::{RelayState, View, history, jobs_plain, jobs_tty, queue, status};

/// Default number of jobs in a list, without -n or -a.
const DEFAULT_LISTED_JOBS: usize = 10;
/// Maximum size of a text in a record that is kept for a list, in bytes. Lists show less than that.
const MAX_TEXT_SIZE: usize = 1024;

/// Flags of `relay status`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay status demo", "relay status --state failed,cancelled --since 1h --grep parser"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct StatusArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: list running and recently ended jobs]
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) jobs: Vec<String>,
    /// Show the newest job
    #[arg(long, conflicts_with = "jobs")]
    pub(super) latest: bool,
    /// List every job, including archived ones
    #[arg(short, long)]
    pub(super) all: bool,
    /// Number of jobs to list [default: 10]
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<usize>,
    /// List the jobs linked to JOB by `relay resume` and `relay retry`, oldest first
    #[arg(long)]
    pub(super) history: bool,
    /// Exit with the state: 0 completed, 1 failed, 8 still running, 125 agent or container lost, 130 cancelled
    #[arg(long)]
    pub(super) exit_code: bool,
    /// Flags that select jobs, archived ones included.
    #[command(flatten)]
    pub(super) filter: FilterFlags,
}

/// Prints the state of jobs.
///
/// # Errors
/// Exit code 3 if a job does not exist, 2 if one is ambiguous, 5 if the registry can't be read.
pub fn run(args: &StatusArgs, context: &Context) -> Result<ExitCode, Failure> {
    if args.latest && !args.history {
        // The record is read directly, without a listing of the registry and without the configuration.
        return Ok(print_jobs(args, context, &[read::newest_job(&context.registry)?.record]));
    }
    if args.jobs.is_empty() {
        if args.history {
            return Ok(print_history(context, &[read::newest_job(&context.registry)?.record]));
        }
        if args.exit_code {
            return Err(Failure::usage("--exit-code needs a JOB or --latest"));
        }
        return print_list(args, context);
    }
    let mut records = Vec::new();
    for job in job_ref::resolve_jobs(context, &args.jobs)? {
        records.push(job_ref::read_record(&context.registry, &job)?.record);
    }
    if args.history {
        return Ok(print_history(context, &records));
    }
    Ok(print_jobs(args, context, &records))
}

/// Prints each job in detail.
fn print_jobs(args: &StatusArgs, context: &Context, records: &[JobRecord]) -> ExitCode {
    for (i, record) in records.iter().enumerate() {
        if context.output.json {
            context.output.print_json(record);
            continue;
        }
        let gap = if i > 0 { "\n" } else { "" };
        let view = view_context::view_of_job(context, record);
        context.output.capture_data(record);
        let predecessors = lineage::predecessors(&context.registry, record);
        let successors = lineage::successors(&context.registry, &record.job);
        let linked = history::history_row(record, &predecessors, &successors, &view).unwrap_or_default();
        context.output.print(&format!("{gap}{}{linked}", status::render_status(record, &view)));
    }
    if args.exit_code {
        exit_code::worst_code(records.iter().map(exit_code::code_for_record))
    } else {
        ExitCode::Done
    }
}

/// Prints the given jobs and all jobs linked to them, each job once.
fn print_history(context: &Context, records: &[JobRecord]) -> ExitCode {
    let mut linked: Vec<JobRecord> =
        records.iter().flat_map(|record| lineage::lineage(&context.registry, record)).collect();
    linked.sort_by(|a, b| a.job.cmp(&b.job));
    linked.dedup_by(|a, b| a.job == b.job);
    if context.output.json {
        for record in &linked {
            context.output.print_json(record);
        }
    } else {
        context.output.print(&jobs_plain::render_table(&linked, &view_context::current_view(context)));
    }
    ExitCode::Done
}

fn print_list(args: &StatusArgs, context: &Context) -> Result<ExitCode, Failure> {
    let registry = &context.registry;
    let unreadable = |e: std::io::Error| {
        Failure::unreachable(format!("the registry {} can't be read: {e}", registry.dir().display()))
    };
    let mut view = view_context::current_view(context);
    let filter = args.filter.resolve(view.now);
    let mut rows = Vec::new();
    let mut unfinished = Vec::new();
    for head in heads::read_heads(registry).map_err(unreadable)? {
        if !head.state.is_final() {
            unfinished.push(QueueRow::from(&head));
        }
        if filter.selects(&head, registry) {
            rows.push(ListRow::from(head));
        }
    }
    view.queue = Queue::new(&unfinished, &lease::group_limits(registry));
    let is_search = !filter.selects_all();
    if args.all || is_search {
        let archive = registry.archive_registry();
        let archived = heads::read_heads(&archive).map_err(unreadable)?;
        rows.extend(archived.filter(|head| filter.selects(head, &archive)).map(ListRow::from));
    }
    rows.sort_by(|a, b| (b.created_at, &b.job).cmp(&(a.created_at, &a.job)));
    rows.dedup_by(|a, b| a.job == b.job);
    let has_no_limit = args.all || (is_search && context.output.json);
    let limit = args.lines.unwrap_or(if has_no_limit { usize::MAX } else { DEFAULT_LISTED_JOBS });
    let matches = rows.len();
    let (chosen, hidden_count) = choose_listed_jobs(rows, limit);
    let mut records = Vec::new();
    // A job that was pruned meanwhile is skipped.
    for record in
        chosen.iter().filter_map(|job| read::load_record(registry, job).ok()).map(|stored| stored.record)
    {
        if context.output.json {
            context.output.print_json(&record);
        } else {
            context.output.capture_data(&record);
            records.push(reduce_for_list(record));
        }
    }
    if context.output.json {
        return Ok(ExitCode::Done);
    }
    if records.is_empty() && is_search {
        context.output.print_note("no job matches");
    } else if records.is_empty() {
        context.output.print_note("no jobs yet: `relay launch -w DIR \"task\"` starts one");
    } else if let Some(columns) = view.columns {
        context.output.print(&jobs_tty::render_list(&records, &view, columns));
    } else {
        context.output.print(&jobs_plain::render_table(&records, &view));
        print_advice(context, &records, &view);
    }
    if is_search && matches > limit {
        let text = format!("{} more match: `-n {matches}` lists them", matches - limit);
        context.output.print_note(&text);
    } else if hidden_count > 0 {
        context.output.print_note(&format!(
            "{hidden_count} more running or queued: `relay status -n {}`",
            limit + hidden_count
        ));
    }
    if view.relay == RelayState::Down && records.iter().any(|record| !record.state.is_final()) {
        context.output.print_note("no relay is running: jobs may be further than shown; run `relay up`");
    }
    Ok(ExitCode::Done)
}

/// Prints advice, so that coding agents don't watch or cancel jobs that need no attention.
fn print_advice(context: &Context, records: &[JobRecord], view: &View) {
    let mut words = records.iter().map(|record| health::health(record, view).word).peekable();
    let needs_no_attention = |word: HealthWord| {
        matches!(word, HealthWord::Healthy | HealthWord::Queued | HealthWord::Held | HealthWord::Ended)
    };
    let is_queued = |record: &JobRecord| record.state == State::Queued;
    let reason = queue::platform_reason(view);
    let has_queued = records.iter().any(is_queued);
    if let Some(reason) =
        reason.filter(|_| !is_starting(view) && view.relay != RelayState::Down && has_queued)
    {
        context.output.print_note(&format!("queued jobs wait: {reason}"));
    } else if words.all(needs_no_attention) && records.iter().any(|record| !record.state.is_final()) {
        context.output.print_note("nothing to do: healthy and queued jobs go on");
    }
}

fn is_starting(view: &View) -> bool {
    matches!(view.relay, RelayState::Up(PlatformStatus::Starting { .. }))
}

/// The fields of a job by which a list is sorted.
struct ListRow {
    job: JobId,
    state: State,
    created_at: Timestamp,
}

impl From<RecordHead> for ListRow {
    fn from(head: RecordHead) -> Self {
        Self { job: head.job, state: head.state, created_at: head.created_at }
    }
}

/// Returns the jobs to list, and the number of unfinished jobs beyond the limit. Running jobs come first, then queued
/// ones, then the newest ended ones.
fn choose_listed_jobs(rows: Vec<ListRow>, limit: usize) -> (Vec<JobId>, usize) {
    let (ended, mut active): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.state.is_final());
    active.sort_by_key(|row| match row.state {
        // The job that will start next comes first.
        State::Queued => Some((row.created_at, row.job.clone())),
        _ => None,
    });
    let hidden_count = active.len().saturating_sub(limit);
    (active.into_iter().chain(ended).take(limit).map(|row| row.job).collect(), hidden_count)
}

/// Reduces a record to the fields that a list shows, because `-a` keeps all records in memory.
fn reduce_for_list(record: JobRecord) -> JobRecord {
    let shorten = |text: &str| truncate(text, MAX_TEXT_SIZE);
    let prompt_summary = shorten(&record.prompt_summary);
    let queued = Queued { prompt_summary, runner: record.runner, ..Queued::default() };
    let mut steps = record.steps;
    // Steps of an ended job are not shown.
    steps.truncate(if record.state.is_final() { 0 } else { MAX_STEPS });
    let mut step = record.step;
    for title in
        steps.iter_mut().map(|step| &mut step.title).chain(step.iter_mut().map(|step| &mut step.title))
    {
        *title = shorten(title);
    }
    JobRecord {
        state: record.state,
        link: record.link,
        started_at: record.started_at,
        finished_at: record.finished_at,
        last_event_at: record.last_event_at,
        agent: record.agent.as_deref().map(shorten),
        thread_id: record.thread_id.as_deref().map(shorten),
        warning: record.warning.as_deref().map(shorten),
        waiting: record.waiting.as_deref().map(shorten),
        held: record.held.map(|hold| Hold { message: shorten(&hold.message), ..hold }),
        // A list shows only the number of warnings.
        warnings: Warnings { count: record.warnings.count, newest: Vec::new() },
        error: record.error.map(|error| JobError { message: shorten(&error.message), ..error }),
        step,
        steps,
        ..JobRecord::from_queued(record.job, record.created_at, &queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    fn row(job: &str, state: State) -> ListRow {
        ListRow { job: job.parse().unwrap(), state, created_at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn unfinished_jobs_are_listed_before_the_newest_ended_ones() {
        let chosen = |limit| {
            let all = vec![
                row("d#1", State::Completed),
                row("c#2", State::Queued),
                row("c#1", State::Queued),
                row("b#1", State::Failed),
                row("a#1", State::Running),
            ];
            let (jobs, hidden_count) = choose_listed_jobs(all, limit);
            (jobs.iter().map(JobId::to_string).collect::<Vec<_>>().join(" "), hidden_count)
        };
        assert_eq!(chosen(4), ("a#1 c#1 c#2 d#1".to_owned(), 0));
        assert_eq!(chosen(2), ("a#1 c#1".to_owned(), 1));
        assert_eq!(chosen(usize::MAX), ("a#1 c#1 c#2 d#1 b#1".to_owned(), 0));
    }

    #[test]
    fn a_list_of_reduced_records_is_equal_to_a_list_of_full_records() {
        let view = samples::view(700);
        for record in [
            samples::running_record(),
            samples::completed_record(),
            samples::record_with_warnings(),
            samples::failed_record(),
        ] {
            let all = |record: &JobRecord| {
                [
                    jobs_plain::render_table(std::slice::from_ref(record), &view),
                    jobs_tty::render_list(std::slice::from_ref(record), &view, 120),
                ]
            };
            assert_eq!(all(&reduce_for_list(record.clone())), all(&record));
        }
    }
}
