//! The tool `wait`. It replies before the host's time limit, even if jobs are still running.

use std::time::{Duration, Instant};

use common::ids::JobId;
use common::record::{JobRecord, State};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::claim_notice::claim_and_show;
use super::super::{Context, exit_code, job_filter, job_ref, job_result, view_context};
use super::compact;
use super::tool_context::{self, Selection, ToolContext};
use crate::exit::{ExitCode, Failure};
use crate::files::watch::FolderWatch;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};
use crate::render::{View, health, status};

/// Default wait time: below the shortest known limit of a host (60 s).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(55);
/// Maximum wait time: Codex gives a tool 300 s.
const MAX_TIMEOUT: Duration = Duration::from_secs(280);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The jobs: abe#1, or abe for its newest one.
    #[schemars(length(max = 20))]
    #[serde(default, alias = "job", deserialize_with = "tool_context::text_or_list")]
    jobs: Vec<String>,
    /// Instead of jobs: every job of this group.
    #[schemars(length(max = 41))]
    group: Option<String>,
    /// Return when the first job has ended.
    #[serde(default)]
    any: bool,
    /// Time to wait in this call: 55s by default, 280s at most.
    timeout: Option<String>,
}

/// Builds the tool `wait`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "wait",
        "Wait for workers",
        "Blocks until workers have ended and returns their summaries, or \"still running\" in good time. \
        Only for a user who wants you to block: this session is notified of ended workers anyway.",
        ToolEffect::MarksNotices,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let timeout =
        tool_context::parse_duration_field("timeout", input.timeout.as_deref())?.unwrap_or(DEFAULT_TIMEOUT);
    let selection = Selection::from_fields(input.jobs, input.group.as_deref())?;
    let context = tool_context.context(call)?;
    let jobs = match selection {
        Selection::Jobs(names) => job_ref::resolve_jobs(&context, &names)?,
        Selection::Group(group) => job_filter::select_group_ids(&context, &group)?,
    };
    let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
    let watch = FolderWatch::registry_folder(context.registry.folder());
    loop {
        let (ended, unfinished) = read_jobs(&context, &jobs)?;
        let is_done = unfinished.is_empty() || (input.any && !ended.is_empty());
        if is_done || !watch.wait(Some(deadline)) {
            return Ok(build_reply(&context, call, &ended, &unfinished, is_done));
        }
        if call.is_cancelled() {
            // The caller no longer waits for the reply, so no notice is claimed.
            return Ok(Reply::new("given up", ExitCode::StillRunning));
        }
    }
}

/// Reads the records; splits them into ended and unfinished jobs.
fn read_jobs(context: &Context, jobs: &[JobId]) -> Result<(Vec<JobRecord>, Vec<JobRecord>), Failure> {
    let (mut ended, mut unfinished) = (Vec::new(), Vec::new());
    for job in jobs {
        let stored = job_ref::read_record(&context.registry, job)?;
        let has_ended = stored.record.state.is_final() && !job_result::is_pending(context, &stored);
        if has_ended { &mut ended } else { &mut unfinished }.push(stored.record);
    }
    Ok((ended, unfinished))
}

/// Builds the reply like `relay wait`: summaries of ended jobs, health of the others, and the worst exit code.
fn build_reply(
    context: &Context,
    call: &CallContext,
    ended: &[JobRecord],
    unfinished: &[JobRecord],
    all_ended: bool,
) -> Reply {
    let mut text = Vec::new();
    for record in ended.iter().filter(|_| !call.is_cancelled()) {
        claim_and_show(context, record, "mcp", || text.push(status::summary_text(record)));
        text.extend(
            (record.state == State::Failed).then(|| format!("next: {}", health::next_action(record))),
        );
    }
    text.extend(
        unfinished.iter().map(|record| health_line(record, &view_context::view_of_job(context, record))),
    );
    if !unfinished.is_empty() {
        text.push(
            "The jobs go on: return to your user (this session is notified when they end), or call `wait` \
            again."
                .to_owned(),
        );
    }
    let code = if all_ended {
        exit_code::worst_code(ended.iter().map(exit_code::code_for_record))
    } else {
        ExitCode::StillRunning
    };
    let values = |records: &[JobRecord]| {
        records.iter().filter_map(|record| serde_json::to_value(record).ok()).collect()
    };
    let (ended, unfinished): (Vec<_>, Vec<_>) = (values(ended), values(unfinished));
    Reply::new(&text.join("\n"), code)
        .with_field("ended", compact::compact_records(&ended))
        .with_field("running", compact::compact_records(&unfinished))
}

/// Returns the health of a job that has not ended, in one line.
fn health_line(record: &JobRecord, view: &View) -> String {
    let health = health::health(record, view);
    match record.state {
        State::Queued => format!("{} still queued: {}", record.job, health.explanation),
        state => format!("{} still {}; {health}", record.job, state.as_str()),
    }
}
