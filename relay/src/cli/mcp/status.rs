//! The tool `status`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::status::{self, StatusArgs};
use super::compact;
use super::tool_context::Desk;
use crate::exit::Failure;
use crate::mcp::{Call, Effect, Reply, Tool};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The job: abe#1, or abe for its newest one. By default a list of what runs and the newest ends.
    #[schemars(length(max = 64))]
    job: Option<String>,
}

/// Builds the tool `status`.
pub(super) fn tool(desk: Desk) -> Tool {
    Tool::new(
        "status",
        "How workers are",
        "Tells how a worker is, or all of them: step, time against its limit, health, last words. Instant; call it when \
         the user asks, not in a loop.",
        Effect::Reads,
        move |input: Input, call: &Call| run(&desk, &input, call),
    )
}

fn run(desk: &Desk, input: &Input, call: &Call) -> Result<Reply, Failure> {
    let args = StatusArgs {
        jobs: input.job.clone().into_iter().collect(),
        latest: false,
        all: false,
        lines: None,
        history: false,
        exit_code: input.job.is_some(),
    };
    let (reply, kept) = desk.run(call, |context| status::run(&args, context))?;
    Ok(compact::with(reply, &kept.facts))
}
