//! The tool `compare`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::compare::{self, CompareArgs};
use super::tool_context::{self, ToolContext};
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// A group such as abe-1, or the jobs: abe#1, or abe for its newest one.
    #[schemars(length(min = 1, max = 20))]
    #[serde(alias = "group", alias = "job", deserialize_with = "tool_context::text_or_list")]
    jobs: Vec<String>,
}

/// Builds the tool `compare`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "compare",
        "Compare the results of workers",
        "Shows how each worker of a group ended, which of its checks passed, the size of its change, its tokens and its \
        time.",
        ToolEffect::ReadOnly,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let args = CompareArgs { jobs: tool_context::check_job_count(input.jobs)? };
    let (reply, captured) = tool_context.run(call, |context| compare::run(&args, context))?;
    Ok(reply.with_field("records", Value::Array(captured.data)))
}
