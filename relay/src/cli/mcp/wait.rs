//! The tool `wait`. It replies before the host's time limit, if necessary with the note that the jobs continue.

use std::time::{Duration, Instant};

use common::ids::JobId;
use common::record::{JobRecord, State};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::claim_notice::show_claimed;
use super::super::{Context, exit_code, job_ref, view_context};
use super::compact;
use super::tool_context::{self, ToolContext};
use crate::exit::{Code, Failure};
use crate::files::watch::Watch;
use crate::mcp::{CallContext, Effect, Reply, Tool};
use crate::render::{View, health, status};

/// Default wait time: below the shortest known limit of a host (60 s).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(55);
/// Maximum wait time: Codex gives a tool 300 s.
const MAX_TIMEOUT: Duration = Duration::from_secs(280);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The jobs: abe#1, or abe for its newest one.
    #[schemars(length(min = 1, max = 20))]
    #[serde(alias = "job", deserialize_with = "tool_context::one_or_many")]
    jobs: Vec<String>,
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
        Effect::Marks,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let wanted = tool_context::duration("timeout", input.timeout.as_deref())?.unwrap_or(DEFAULT_TIMEOUT);
    let typed = tool_context::jobs(input.jobs)?;
    let context = tool_context.context(call)?;
    let jobs = job_ref::jobs(&context, &typed)?;
    let deadline = Instant::now() + wanted.min(MAX_TIMEOUT);
    let watch = Watch::folder(context.registry.folder());
    loop {
        let (ended, running) = read_jobs(&context, &jobs)?;
        let done = running.is_empty() || (input.any && !ended.is_empty());
        if done || !watch.wait(Some(deadline)) {
            return Ok(answer(&context, call, &ended, &running, done));
        }
        if call.is_over() {
            // This reply has no reader, so no notice is claimed.
            return Ok(Reply::new("given up", Code::StillRunning));
        }
    }
}

/// Reads the records; splits them into ended and unfinished jobs.
fn read_jobs(context: &Context, jobs: &[JobId]) -> Result<(Vec<JobRecord>, Vec<JobRecord>), Failure> {
    let records = jobs.iter().map(|job| job_ref::record(&context.registry, job).map(|stored| stored.record));
    let records = records.collect::<Result<Vec<_>, _>>()?;
    Ok(records.into_iter().partition(|record| record.state.is_final()))
}

/// Builds the reply, as `relay wait` prints it: summaries of ended jobs, health of the others, and the worst exit code.
fn answer(
    context: &Context,
    call: &CallContext,
    ended: &[JobRecord],
    running: &[JobRecord],
    done: bool,
) -> Reply {
    let mut text = Vec::new();
    for record in ended.iter().filter(|_| !call.is_over()) {
        show_claimed(context, record, "mcp", || text.push(status::summary(record)));
        text.extend((record.state == State::Failed).then(|| format!("next: {}", health::next(record))));
    }
    text.extend(running.iter().map(|record| approval(record, &view_context::view_of(context, record))));
    if !running.is_empty() {
        text.push(
            "The jobs go on: return to your user (this session is notified when they end), or call `wait` \
            again."
                .to_owned(),
        );
    }
    let code = if done { exit_code::worst(ended.iter().map(exit_code::code)) } else { Code::StillRunning };
    let values = |records: &[JobRecord]| {
        records.iter().filter_map(|record| serde_json::to_value(record).ok()).collect()
    };
    let (ended, running): (Vec<_>, Vec<_>) = (values(ended), values(running));
    Reply::new(&text.join("\n"), code)
        .with("ended", compact::records(&ended))
        .with("running", compact::records(&running))
}

/// Health of a job that has not ended, in one line.
fn approval(record: &JobRecord, view: &View) -> String {
    let health = health::health(record, view);
    match record.state {
        State::Queued => format!("{} still queued: {}", record.job, health.rest),
        state => format!("{} still {}; {health}", record.job, state.as_str()),
    }
}
