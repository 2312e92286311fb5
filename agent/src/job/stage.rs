//! Commands of a job, in order. Pure.

use common::job::{JobSpec, Runner, StepKind};
use common::text;

use crate::codex::model_activity::ActivityDetector;
use crate::confine::sandbox::JobSandbox;
use crate::environment::{Variables, without_secrets};
use crate::process::Streams;
use crate::shim::protocol::Command;
use crate::steps::rules::{Classification, Rules};
use crate::user::Ids;

/// One command of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A command before the worker.
    Setup(String),
    Worker,
    /// A command after the worker.
    Check(String),
}

impl Stage {
    pub(crate) fn all(spec: &JobSpec) -> Vec<Self> {
        let setup = spec.setup.iter().cloned().map(Self::Setup);
        let checks = spec.checks.iter().cloned().map(Self::Check);
        setup.chain([Self::Worker]).chain(checks).collect()
    }

    /// Returns its step, or `None` for Codex, whose steps come from its own events.
    pub(crate) fn step(&self, spec: &JobSpec, rules: &Rules) -> Option<Classification> {
        match (self, spec.runner) {
            (Self::Setup(line), _) => {
                Some(Classification::plain(StepKind::Setup, rules.classify_job_line(line).title))
            }
            (Self::Check(line), _) => {
                Some(Classification::plain(StepKind::Check, rules.classify_job_line(line).title))
            }
            (Self::Worker, Runner::Shell) => Some(rules.classify_job_line(&spec.prompt)),
            (Self::Worker, Runner::Codex) => None,
        }
    }

    /// Returns its name in messages. `codex` is true if its worker is Codex.
    pub(crate) fn display_name(&self, codex: bool) -> String {
        match self {
            Self::Setup(line) => format!("setup '{}'", text::one_line(line, 200)),
            Self::Check(line) => format!("check '{}'", text::one_line(line, 200)),
            Self::Worker if codex => "codex".to_owned(),
            Self::Worker => "the command".to_owned(),
        }
    }

    pub(crate) fn is_codex(&self, spec: &JobSpec) -> bool {
        *self == Self::Worker && spec.runner == Runner::Codex
    }

    /// Returns how its output is read: split only where stdout is a protocol.
    pub(crate) fn streams(&self, spec: &JobSpec) -> Streams {
        if self.is_codex(spec) { Streams::Split } else { Streams::Merged }
    }

    /// Returns the command to run in the workspace. `codex` is Codex's program, as it was found: only it gets the
    /// model's key.
    pub(crate) fn command(
        &self,
        spec: &JobSpec,
        env: &Variables,
        user: Option<Ids>,
        codex: &str,
        sandbox: Option<&JobSandbox>,
    ) -> Command {
        let (argv, stdin) = match (self, spec.runner) {
            (Self::Worker, Runner::Codex) => (
                crate::codex::command::argv(codex, spec, env, sandbox.map(JobSandbox::codex_arguments)),
                spec.prompt.clone(),
            ),
            (Self::Worker, Runner::Shell) => shell(&spec.prompt),
            (Self::Setup(line) | Self::Check(line), _) => shell(line),
        };
        let interrupt_first = self.is_codex(spec);
        let mut env = if interrupt_first { env.clone() } else { without_secrets(env, &spec.env) };
        if interrupt_first {
            ActivityDetector::request_trace(&mut env);
        }
        if let Some(sandbox) = sandbox {
            sandbox.redirect(&mut env, spec);
        }
        let cwd = ".".to_owned();
        let mut command =
            Command { argv, env, cwd, user, stdin, interrupt_first, exit_report: None, confine: None };
        if let Some(sandbox) = sandbox.filter(|_| !interrupt_first) {
            sandbox.wrap(&mut command);
        }
        command
    }
}

/// Longest command line that is passed as an argument, in bytes: the kernel takes none of 128 KiB or more.
const MAX_ARGUMENT: usize = 64 * 1024;

/// Script that reads a longer line from stdin, whole, and then runs it as `sh -c` does: with no input, its variables
/// and its last line break untouched.
const FROM_STDIN: &str = r#"line=$(cat; echo .); exec </dev/null; eval "unset line; ${line%.}""#;

/// Returns the shell for a command line, and its stdin.
fn shell(line: &str) -> (Vec<String>, String) {
    let call = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
    if line.len() <= MAX_ARGUMENT { (call(line), String::new()) } else { (call(FROM_STDIN), line.to_owned()) }
}
