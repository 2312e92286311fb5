//! The tool `cancel`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::cancel::{self, CancelArgs};
use super::compact;
use super::tool_context::{self, Selection, ToolContext};
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The jobs: abe#1, or abe for its newest one.
    #[schemars(length(max = 20))]
    #[serde(default, alias = "job", deserialize_with = "tool_context::text_or_list")]
    jobs: Vec<String>,
    /// Instead of jobs: every job of this group that has not ended.
    #[schemars(length(max = 41))]
    group: Option<String>,
}

/// Builds the tool `cancel`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "cancel",
        "Cancel workers",
        "Ends workers and everything they started, and returns when they have ended. Files they have changed stay as they \
         are.",
        ToolEffect::Destructive,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let (jobs, group) = match Selection::from_fields(input.jobs, input.group.as_deref())? {
        Selection::Jobs(jobs) => (jobs, None),
        Selection::Group(group) => (Vec::new(), Some(group)),
    };
    let args = CancelArgs { jobs, group, all: false, grace: None };
    let (reply, captured) = tool_context.run(call, |context| cancel::run(&args, context))?;
    Ok(compact::with_records(reply, &captured.data))
}
