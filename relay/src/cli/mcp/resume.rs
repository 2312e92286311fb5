//! The tool `resume`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::launch::{OnLoopName, Start};
use super::super::resume::{self, ResumeArgs};
use super::tool_context::ToolContext;
use super::{compact, launch};
use crate::exit::Failure;
use crate::mcp::{CallContext, Effect, Reply, Tool};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job to go on with: abe#1, or abe for its newest one. It must have ended, no matter how.
    #[schemars(length(max = 64))]
    job: String,
    /// What the worker is to do next: it remembers everything of the earlier job. At most 512 KiB.
    #[schemars(length(min = 1, max = 524_288))]
    prompt: String,
    /// Command lines after the worker that must succeed, or the job fails. By default those of the earlier job.
    #[serde(default)]
    #[schemars(length(max = 20))]
    checks: Vec<String>,
    /// Time limit of the whole job, such as 90s, 30m or 2h. By default that of relay.toml, or 4h.
    timeout: Option<String>,
    /// What becomes of a worker that fails at one step again and again. By default that of relay.toml, or warn.
    #[schemars(with = "Option<String>", extend("enum" = ["warn", "fail"]))]
    on_loop: Option<OnLoopName>,
    /// A second call with the same key starts nothing and names the first one's job.
    #[schemars(length(max = 256))]
    key: Option<String>,
}

/// Builds the tool `resume`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "resume",
        "Go on with a worker",
        "Hands a follow-up to a worker that has ended: a new job in the same Codex thread. Returns at once, as launch does.",
        Effect::Adds,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    launch::bounded(&input.prompt, &[&input.checks])?;
    let args = ResumeArgs {
        job: input.job,
        prompt: Some(input.prompt),
        check: input.checks,
        limits: launch::limits(input.timeout.as_deref())?,
        on_loop: input.on_loop,
        start: Start { key: input.key, ..Start::default() },
        ..ResumeArgs::default()
    };
    let (reply, captured) = tool_context.run(call, |context| resume::run(&args, context))?;
    Ok(compact::with_records(reply, &captured.facts))
}
