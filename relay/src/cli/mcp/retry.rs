//! The tool `retry`.

use common::hold::OnQuota;
use common::rule::OnLoop;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::retry::{self, RetryArgs};
use super::super::submit::StartFlags;
use super::tool_context::ToolContext;
use super::{compact, launch};
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job whose task is run again: abe#1, or abe for its newest one. It must have ended.
    #[schemars(length(max = 64))]
    job: String,
    /// Time limit of the job, such as 90s, 30m or 2h. By default that of the earlier job.
    timeout: Option<String>,
    /// Action when a worker repeats a failing step. By default that of the earlier job.
    #[schemars(with = "Option<String>", extend("enum" = ["warn", "fail"]))]
    on_loop: Option<OnLoop>,
    /// Action when the account's usage limit is reached: wait or fail. By default that of the earlier job.
    #[schemars(with = "Option<String>", extend("enum" = ["wait", "fail"]))]
    on_quota: Option<OnQuota>,
    /// Model of the worker. By default that of the earlier job.
    model: Option<String>,
    /// Idempotency key: a second call with it starts nothing and returns the first job.
    #[schemars(length(max = 256))]
    key: Option<String>,
}

/// Builds the tool `retry`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "retry",
        "Run a task again",
        "Runs the task of a worker that has ended again, in a new thread: the new worker remembers nothing \
        of the earlier one. Returns at once, as launch does.",
        ToolEffect::Additive,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let args = RetryArgs {
        job: Some(input.job),
        limits: launch::limit_flags(input.timeout.as_deref())?,
        model: input.model,
        on_loop: input.on_loop,
        on_quota: input.on_quota,
        start: StartFlags { key: input.key, ..StartFlags::default() },
        ..RetryArgs::default()
    };
    let (reply, captured) = tool_context.run(call, |context| retry::run(&args, context))?;
    Ok(compact::with_records(reply, &captured.data))
}
