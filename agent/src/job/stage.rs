//! Stages of a job: its commands, in order. Pure.

use common::job::{JobSpec, Runner, StepKind};
use common::text_format;

use crate::codex::model_activity::ActivityDetector;
use crate::confine::sandbox::JobSandbox;
use crate::environment::{Variables, strip_secrets};
use crate::place::git;
use crate::process::OutputPipes;
use crate::shim::protocol::Command;
use crate::steps::rules::{Classification, Rules};
use crate::user::UserIds;

/// One command of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The fetch of the base into the cache of its repository. It runs as the agent, and precedes [`Self::Clone`].
    FillCache,
    /// The making of the job's place: from the cache at this path, else by a fetch. It precedes [`Self::from_spec`].
    Clone(Option<String>),
    /// The checkout of the base in a place that was made ahead, with what is new in the cache at this path, instead of
    /// [`Self::Clone`]. It runs outside of the sandbox.
    Advance(String),
    /// The checkout of the base in the clone that was kept for the job's thread, instead of [`Self::Clone`].
    Continue,
    /// A command before the worker.
    Setup(String),
    Worker,
    /// A command after the worker.
    Check(String),
}

impl Stage {
    /// Returns the commands that the spec names: setup, worker and checks.
    pub(crate) fn from_spec(spec: &JobSpec) -> Vec<Self> {
        let setup = spec.setup.iter().cloned().map(Self::Setup);
        let checks = spec.checks.iter().cloned().map(Self::Check);
        setup.chain([Self::Worker]).chain(checks).collect()
    }

    /// Returns the classification of the command's step; `None` for Codex, whose steps come from its events.
    pub(crate) fn step_classification(&self, spec: &JobSpec, rules: &Rules) -> Option<Classification> {
        match (self, spec.runner) {
            (Self::FillCache, _) => Some(Classification::without_rule(StepKind::Clone, fetch_title(spec))),
            (Self::Clone(cache), _) => {
                Some(Classification::without_rule(StepKind::Clone, clone_title(spec, cache.is_some())))
            }
            (Self::Continue | Self::Advance(_), _) => {
                Some(Classification::without_rule(StepKind::Clone, clone_title(spec, true)))
            }
            (Self::Setup(line), _) => {
                Some(Classification::without_rule(StepKind::Setup, rules.classify_job_line(line).title))
            }
            (Self::Check(line), _) => {
                Some(Classification::without_rule(StepKind::Check, rules.classify_job_line(line).title))
            }
            (Self::Worker, Runner::Shell) => Some(rules.classify_job_line(&spec.prompt)),
            (Self::Worker, Runner::Codex) => None,
        }
    }

    /// Returns the command's name for messages. `is_codex` is true if the job's worker is Codex.
    pub(crate) fn display_name(&self, is_codex: bool) -> String {
        match self {
            Self::FillCache => "the fetch into the cache".to_owned(),
            Self::Clone(_) | Self::Advance(_) | Self::Continue => "the clone".to_owned(),
            Self::Setup(line) => format!("setup '{}'", text_format::one_line(line, 200)),
            Self::Check(line) => format!("check '{}'", text_format::one_line(line, 200)),
            Self::Worker if is_codex => "codex".to_owned(),
            Self::Worker => "the command".to_owned(),
        }
    }

    pub(crate) fn is_codex(&self, spec: &JobSpec) -> bool {
        *self == Self::Worker && spec.runner == Runner::Codex
    }

    /// Returns the pipes for the command's output: separate ones only for Codex, whose stdout has its events.
    pub(crate) fn output_pipes(&self, spec: &JobSpec) -> OutputPipes {
        if self.is_codex(spec) { OutputPipes::Split } else { OutputPipes::Merged }
    }

    /// Returns the command to run in the workspace. `codex` is Codex's path. Only Codex gets the model's key.
    pub(crate) fn command(
        &self,
        spec: &JobSpec,
        env: &Variables,
        user: Option<UserIds>,
        codex: &str,
        sandbox: Option<&JobSandbox>,
    ) -> Command {
        let (argv, stdin) = match (self, spec.runner) {
            (Self::Worker, Runner::Codex) => (
                crate::codex::command::codex_argv(codex, spec, env, sandbox.map(JobSandbox::codex_arguments)),
                spec.prompt.clone(),
            ),
            (Self::Clone(cache), _) => {
                let clone = |place| git::clone_argv(place, cache.as_deref());
                (spec.place.as_ref().map(clone).unwrap_or_default(), String::new())
            }
            (Self::Continue, _) => {
                (spec.place.as_ref().map(git::continue_argv).unwrap_or_default(), String::new())
            }
            // `WritableCache` and `PreparedClone` build these commands.
            (Self::FillCache | Self::Advance(_), _) => (Vec::new(), String::new()),
            (Self::Worker, Runner::Shell) => shell_argv_and_stdin(&spec.prompt),
            (Self::Setup(line) | Self::Check(line), _) => shell_argv_and_stdin(line),
        };
        let interrupt_first = self.is_codex(spec);
        let mut env = if interrupt_first { env.clone() } else { strip_secrets(env, &spec.env) };
        if interrupt_first {
            ActivityDetector::request_trace(&mut env);
        }
        if let Some(sandbox) = sandbox {
            sandbox.redirect(&mut env, spec);
        }
        let cwd = ".".to_owned();
        let mut command =
            Command { argv, env, cwd, user, stdin, interrupt_first, orphan_report: None, confine: None };
        if let Some(sandbox) = sandbox.filter(|_| !interrupt_first) {
            sandbox.wrap(&mut command);
        }
        command
    }
}

/// Returns the title of the step that fetches the base into a cache.
fn fetch_title(spec: &JobSpec) -> String {
    spec.place.as_ref().map_or_else(String::new, |place| format!("git fetch {:.12}", place.base()))
}

/// Returns the title of the step that makes the place.
pub(crate) fn clone_title(spec: &JobSpec, is_cached: bool) -> String {
    let Some(place) = &spec.place else { return String::new() };
    let verb = if is_cached { "checkout" } else { "fetch" };
    format!("git {verb} {:.12} as {}", place.base(), place.branch())
}

/// Maximum length of a command line that is passed as an argument, in bytes. The kernel refuses 128 KiB and more.
const MAX_ARGUMENT: usize = 64 * 1024;

/// Script that reads a longer command line from stdin and runs it as `sh -c` would: without input, without additional
/// variables, and with the last line break unchanged.
const EVAL_STDIN_SCRIPT: &str = r#"line=$(cat; echo .); exec </dev/null; eval "unset line; ${line%.}""#;

/// Returns the argv and the stdin of a shell that runs a command line.
fn shell_argv_and_stdin(line: &str) -> (Vec<String>, String) {
    let call = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
    if line.len() <= MAX_ARGUMENT {
        (call(line), String::new())
    } else {
        (call(EVAL_STDIN_SCRIPT), line.to_owned())
    }
}
