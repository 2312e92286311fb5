//! The tool `launch`.

use std::path::PathBuf;

use common::expectation::{Expectation, MAX_EXPECTATIONS};
use common::hold::OnQuota;
use common::job::Runner;
use common::rule::OnLoop;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::launch::{self, LaunchArgs};
use super::super::limits::LimitFlags;
use super::super::place::PlaceFlags;
use super::super::schedule::ScheduleFlags;
use super::super::submit::StartFlags;
use super::compact;
use super::tool_context::{self, ToolContext};
use crate::exit::Failure;
use crate::mcp::{CallContext, Reply, Tool, ToolEffect};

/// Maximum number of command lines in a list: those before the worker, or those after the worker.
const MAX_COMMANDS: usize = 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The whole task: the worker sees nothing of this conversation. At most 512 KiB.
    #[schemars(length(min = 1, max = 524_288))]
    prompt: String,
    /// Folder to work in, absolute or relative to the folder of this session.
    #[schemars(length(min = 1, max = 4096))]
    workspace: String,
    /// Name of the job: lower-case letters, digits, - and _. By default that of the folder.
    #[schemars(length(max = 41))]
    name: Option<String>,
    /// Command lines to run before the worker, such as "npm ci"; the first failure ends the job.
    #[serde(default)]
    #[schemars(length(max = 20))]
    setup: Vec<String>,
    /// Command lines to run after the worker, such as "npm test"; the job fails unless they succeed.
    #[serde(default)]
    #[schemars(length(max = 20))]
    checks: Vec<String>,
    /// Required result; without it the job fails: `commit`, `change` or `file:PATH`.
    #[serde(default)]
    #[schemars(length(max = 20))]
    expect: Vec<String>,
    /// Images for the worker: paths of PNG, JPEG, GIF or WebP files, at most 20 MiB each.
    #[serde(default)]
    #[schemars(length(max = 10))]
    images: Vec<PathBuf>,
    /// Time limit of the job, such as 90s, 30m or 2h. By default that of relay.toml, or 4h.
    timeout: Option<String>,
    /// Action when a worker repeats a failing step. By default that of relay.toml, or warn.
    #[schemars(with = "Option<String>", extend("enum" = ["warn", "fail"]))]
    on_loop: Option<OnLoop>,
    /// Action when the account's usage limit is reached: wait (the worker goes on by itself after it) or fail. By default
    /// that of relay.toml, or wait.
    #[schemars(with = "Option<String>", extend("enum" = ["wait", "fail"]))]
    on_quota: Option<OnQuota>,
    /// Model of the worker. By default that of relay.toml, else Codex's own.
    model: Option<String>,
    /// True: the worker gets a clone of the repository, and its result is a branch. By default as in relay.toml.
    branch: Option<bool>,
    /// True: the worker does not wait for other jobs that work in the same folder.
    #[serde(default)]
    share: bool,
    /// Commit that the clone starts from, or the id of a job (abe#1) for its result. By default HEAD with the uncommitted
    /// files. Needs `branch`.
    #[schemars(length(max = 256))]
    base: Option<String>,
    /// Jobs that must complete first, such as abe#1. If one of them fails, the new job fails at once.
    #[serde(default, deserialize_with = "tool_context::text_or_list")]
    #[schemars(length(max = 20))]
    after: Vec<String>,
    /// Group of the job: lower-case letters, digits, - and _. relay.toml may limit how many jobs of a group run at once.
    #[schemars(length(max = 41))]
    group: Option<String>,
    /// Number of workers that try the same task, 2 to 16, each with a branch of its own: `compare` their group.
    #[schemars(range(min = 2, max = 16))]
    attempts: Option<u32>,
    /// Idempotency key: a second launch with it starts nothing and returns the first job.
    #[schemars(length(max = 256))]
    key: Option<String>,
}

/// Builds the tool `launch`.
pub(super) fn tool(tool_context: ToolContext) -> Tool {
    Tool::new(
        "launch",
        "Launch a worker",
        "Hands a task to a worker and returns at once with its job, such as abe#1. Then return to your \
        user: this session is notified when the job ends.",
        ToolEffect::Additive,
        move |input: Input, call: &CallContext| run(&tool_context, input, call),
    )
}

fn run(tool_context: &ToolContext, input: Input, call: &CallContext) -> Result<Reply, Failure> {
    let args = launch_args(input)?;
    let (reply, captured) = tool_context.run(call, |context| launch::run(&args, context))?;
    Ok(compact::with_records(reply, &captured.data))
}

/// Rejects the prompt `-`, which would make the command read stdin, and lists with more than [`MAX_COMMANDS`] command
/// lines.
///
/// # Errors
/// Exit code 2.
pub(super) fn check_bounds(prompt: &str, commands: &[&Vec<String>]) -> Result<(), Failure> {
    if prompt == "-" {
        return Err(Failure::usage("the prompt is empty: say what the worker is to do"));
    }
    if commands.iter().any(|commands| commands.len() > MAX_COMMANDS) {
        return Err(Failure::usage(format!("more than {MAX_COMMANDS} command lines: join some with &&")));
    }
    Ok(())
}

/// Converts the field `timeout` of a tool's input into flags for limits.
///
/// # Errors
/// Exit code 2 if the text is not a duration.
pub(super) fn limit_flags(timeout: Option<&str>) -> Result<LimitFlags, Failure> {
    Ok(LimitFlags {
        timeout: tool_context::parse_duration_field("timeout", timeout)?,
        ..LimitFlags::default()
    })
}

fn check_attempts(attempts: Option<u32>) -> Result<(), Failure> {
    if attempts.is_some_and(|attempts| !(2..=16).contains(&attempts)) {
        return Err(Failure::usage("`attempts`: 2 to 16 workers can try the same task"));
    }
    Ok(())
}

fn launch_args(input: Input) -> Result<LaunchArgs, Failure> {
    check_bounds(&input.prompt, &[&input.setup, &input.checks])?;
    let expect = input.expect.iter().take(MAX_EXPECTATIONS + 1).map(|text| text.parse::<Expectation>());
    let expect: Result<Vec<Expectation>, String> = expect.collect();
    check_attempts(input.attempts)?;
    Ok(LaunchArgs {
        prompt: Some(input.prompt),
        file: None,
        workspace: PathBuf::from(input.workspace),
        name: tool_context::parse_name_field("name", input.name.as_deref())?,
        setup: input.setup,
        check: input.checks,
        image: input.images,
        expect: expect.map_err(|e| Failure::usage(format!("`expect`: {e}")))?,
        limits: limit_flags(input.timeout.as_deref())?,
        on_limit: None,
        on_loop: input.on_loop,
        on_quota: input.on_quota,
        model: input.model,
        env: Vec::new(),
        runner: Runner::Codex,
        place: PlaceFlags {
            branch: (input.branch == Some(true)).then(String::new),
            in_place: input.branch == Some(false),
            share: input.share,
            base: input.base,
            ..PlaceFlags::default()
        },
        schedule: ScheduleFlags {
            after: input.after,
            group: tool_context::parse_name_field("group", input.group.as_deref())?,
        },
        attempts: input.attempts,
        start: StartFlags { key: input.key, ..StartFlags::default() },
        codex_args: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(input: serde_json::Value) -> String {
        launch_args(serde_json::from_value(input).unwrap()).unwrap_err().message
    }

    #[test]
    fn mistakes_name_their_field() {
        assert!(refusal(json!({"prompt": "-", "workspace": "."})).starts_with("the prompt is empty"));
        assert!(refusal(json!({"prompt": "x", "workspace": ".", "name": "No Good"})).starts_with("`name`: "));
        let expect = refusal(json!({"prompt": "x", "workspace": ".", "expect": ["commits"]}));
        assert!(expect.starts_with("`expect`: unknown expectation 'commits'"), "{expect}");
        let timeout = refusal(json!({"prompt": "x", "workspace": ".", "timeout": "5"}));
        assert_eq!(timeout, "`timeout`: '5' is not a duration: write it like 90s, 10m or 1h30m");
        let many = vec!["true"; MAX_COMMANDS + 1];
        assert!(refusal(json!({"prompt": "x", "workspace": ".", "checks": many})).contains("more than 20"));
    }
}
