//! The tool `status`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::status::{self, StatusArgs};
use super::compact;
use super::tool_context::ToolContext;
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job: abe#1, or abe for its newest one. By default a list of running and recently ended jobs.
    #[schemars(length(max = 64))]
    job: Option<String>,
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

fn run(tool_context: &ToolContext, input: &Input, call: &CallContext) -> Result<Reply, Failure> {
    let args = StatusArgs {
        jobs: input.job.clone().into_iter().collect(),
        latest: false,
        all: false,
        lines: None,
        history: false,
        exit_code: input.job.is_some(),
    };
    let (reply, captured) = tool_context.run(call, |context| status::run(&args, context))?;
    Ok(compact::with_records(reply, &captured.data))
}
