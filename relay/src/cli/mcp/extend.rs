//! The tool `extend`.

use common::duration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::extend::{self, ExtendArgs};
use super::tool_context::ToolContext;
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job: abe#1, or abe for its newest one.
    #[schemars(length(max = 64))]
    job: String,
    /// Additional time, such as 30m.
    by: String,
    /// Extend the current step instead of the job.
    #[serde(default)]
    step: bool,
}

/// Builds the tool `extend`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "extend",
        "Give a worker more time",
        "Extends the time limit of a worker, or of its current step. Each call extends it again.",
        ToolEffect::Additive,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let additional_time = duration::parse_duration(&input.by)
        .map_err(|reason| Failure::usage(format!("`by`: {}", common::text_format::one_line(&reason, 200))))?;
    let args = ExtendArgs { job: input.job, additional_time, step: input.step };
    let (reply, captured) = tool_context.run(call, |context| extend::run(&args, context))?;
    Ok(captured.data.into_iter().fold(reply, |reply, extension| reply.with_field("extended", extension)))
}
