//! The tool `explain`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::explain::{self, ExplainArgs};
use super::compact;
use super::tool_context::ToolContext;
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job: abe#1, or abe for its newest one. By default the newest job.
    #[schemars(length(max = 64))]
    job: Option<String>,
}

/// Builds the tool `explain`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "explain",
        "Explain a worker's outcome",
        "Explains where a worker's time went, why it failed and what to try. Read it before you launch the \
        same task again.",
        ToolEffect::ReadOnly,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let args = ExplainArgs { job: input.job };
    let (reply, captured) = tool_context.run(call, |context| explain::run(&args, context))?;
    let total = captured.data.first().and_then(|explanation| explanation.get("total_ms")).cloned();
    let reply = compact::with_records(reply, &captured.data);
    Ok(total.into_iter().fold(reply, |reply, total| reply.with_field("total_ms", total)))
}
