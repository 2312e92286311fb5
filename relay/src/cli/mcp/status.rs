//! The tool `status`.

use common::record::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::job_filter::{self, FilterFlags};
use super::super::status::{self, StatusArgs};
use super::compact;
use super::tool_context::{self, ToolContext};
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job: abe#1, or abe for its newest one. By default a list of running and recently ended jobs.
    #[schemars(length(max = 64))]
    job: Option<String>,
    /// Only jobs in these states: queued, starting, running, stopping, completed, failed, cancelled.
    #[serde(default, deserialize_with = "tool_context::text_or_list")]
    #[schemars(length(max = 7))]
    state: Vec<String>,
    /// Only jobs with an event within this time, such as 90s, 30m or 2h.
    since: Option<String>,
    /// Only jobs of this group.
    #[schemars(length(max = 41))]
    group: Option<String>,
    /// Only jobs with this text in their name, task or summary.
    #[schemars(length(max = 200))]
    grep: Option<String>,
}

/// Builds the tool `status`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "status",
        "Status of workers",
        "Shows one worker, or all: step, time against its limit, health, last message. Instant; call it \
        when the user asks, not in a loop.",
        ToolEffect::ReadOnly,
        move |input: Input, call: &CallContext| run(&tool_context, &input, call),
    )
}

fn parse_state(name: &str) -> Result<State, Failure> {
    job_filter::state_named(name).ok_or_else(|| {
        Failure::usage(format!("`state`: there is no state '{}'", common::text_format::one_line(name, 60)))
    })
}

fn run(tool_context: &ToolContext, input: &Input, call: &CallContext) -> Result<Reply, Failure> {
    let filter = FilterFlags {
        state: input.state.iter().map(|name| parse_state(name)).collect::<Result<_, _>>()?,
        since: tool_context::parse_duration_field("since", input.since.as_deref())?,
        group: tool_context::parse_name_field("group", input.group.as_deref())?,
        grep: input.grep.clone(),
    };
    if input.job.is_some() && !filter.is_empty() {
        return Err(Failure::usage("`job` shows one job: omit it to search"));
    }
    let args = StatusArgs {
        jobs: input.job.clone().into_iter().collect(),
        latest: false,
        all: false,
        lines: None,
        history: false,
        exit_code: input.job.is_some(),
        filter,
    };
    let (reply, captured) = tool_context.run(call, |context| status::run(&args, context))?;
    Ok(compact::with_records(reply, &captured.data))
}
