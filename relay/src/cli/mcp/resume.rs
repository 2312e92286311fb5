//! The tool `resume`.

use common::hold::OnQuota;
use common::rule::OnLoop;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::resume::{self, ResumeArgs};
use super::super::submit::StartFlags;
use super::tool_context::ToolContext;
use super::{compact, launch};
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job to continue: abe#1, or abe for its newest one. It must have ended.
    #[schemars(length(max = 64))]
    job: String,
    /// The next task: the worker remembers the earlier job. At most 512 KiB.
    #[schemars(length(min = 1, max = 524_288))]
    prompt: String,
    /// Command lines to run after the worker; the job fails unless they succeed. By default those of the earlier job.
    #[serde(default)]
    #[schemars(length(max = 20))]
    checks: Vec<String>,
    /// Time limit of the job, such as 90s, 30m or 2h. By default that of relay.toml, or 4h.
    timeout: Option<String>,
    /// Action when a worker repeats a failing step. By default that of relay.toml, or warn.
    #[schemars(with = "Option<String>", extend("enum" = ["warn", "fail"]))]
    on_loop: Option<OnLoop>,
    /// Action when the account's usage limit is reached: wait or fail. By default that of relay.toml, or wait.
    #[schemars(with = "Option<String>", extend("enum" = ["wait", "fail"]))]
    on_quota: Option<OnQuota>,
    /// Idempotency key: a second call with it starts nothing and returns the first job.
    #[schemars(length(max = 256))]
    key: Option<String>,
}

/// Builds the tool `resume`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "resume",
        "Continue a worker",
        "Hands a follow-up to a worker that has ended: a new job in the same Codex thread. Returns at once, as launch does.",
        ToolEffect::Additive,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    launch::check_bounds(&input.prompt, &[&input.checks])?;
    let args = ResumeArgs {
        job: input.job,
        prompt: Some(input.prompt),
        check: input.checks,
        limits: launch::limit_flags(input.timeout.as_deref())?,
        on_loop: input.on_loop,
        on_quota: input.on_quota,
        start: StartFlags { key: input.key, ..StartFlags::default() },
        ..ResumeArgs::default()
    };
    let (reply, captured) = tool_context.run(call, |context| resume::run(&args, context))?;
    Ok(compact::with_records(reply, &captured.data))
}
