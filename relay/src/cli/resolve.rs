//! Raw flags → a launch with every option decided. Every mistake is found here, before anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::env::VarError;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use common::duration;
use common::ids::{JobId, JobName};
use common::job::{CodexSettings, JobSpec, Limits, MAX_SPEC, Runner, SPEC_SCHEMA, StepKind};
use common::origin::Origin;
use common::rule::{OnLimit, OnLoop, StepRule};
use common::text::one_line;

use super::launch::{LaunchArgs, OnLimitName, OnLoopName, RunnerName};
use super::limits::{self, LimitFlags};
use super::run::RunArgs;
use super::{prompt, session};
use crate::config::Config;
use crate::engine::EngineKind;
use crate::engine::workspace::{self, Workspace};
use crate::exit::Failure;
use crate::policy::Policy;

/// Context of a launch, beside its flags.
pub struct ResolveContext<'a> {
    /// `relay.toml`.
    pub config: &'a Config,
    /// Engine that will run the job.
    pub engine: EngineKind,
    /// Current folder.
    pub cwd: &'a Path,
    /// Environment of the caller.
    pub variable: &'a dyn Fn(&str) -> Result<String, VarError>,
}

/// A job ready to be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Name of the job.
    pub name: JobName,
    /// Folder to work in.
    pub workspace: Workspace,
    /// Engine to run on.
    pub engine: EngineKind,
    /// Program that executes the prompt.
    pub runner: Runner,
    /// Task.
    pub prompt: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Command lines to run before the worker.
    pub setup: Vec<String>,
    /// Command lines to run after the worker.
    pub checks: Vec<String>,
    /// Time limits.
    pub limits: Limits,
    /// Rules for the steps.
    pub rules: Vec<StepRule>,
    /// Action at a step's limit.
    pub on_limit: OnLimit,
    /// Action when the worker is stuck in a loop.
    pub on_loop: OnLoop,
    /// Settings of the call of Codex.
    pub codex: CodexSettings,
    /// Codex thread to continue.
    pub thread: Option<String>,
    /// Origin of the job.
    pub origin: Origin,
}

impl Launch {
    /// Builds the spec for the given job id.
    pub fn spec(&self, job: &JobId) -> JobSpec {
        JobSpec {
            schema: SPEC_SCHEMA,
            job: job.clone(),
            runner: self.runner,
            prompt: self.prompt.clone(),
            workspace: self.workspace.inside.clone(),
            env: self.env.clone(),
            env_names: BTreeSet::new(),
            setup: self.setup.clone(),
            checks: self.checks.clone(),
            limits: self.limits.clone(),
            rules: self.rules.clone(),
            on_limit: self.on_limit,
            on_loop: self.on_loop,
            codex: self.codex.clone(),
            thread: self.thread.clone(),
        }
    }

    /// Rejects values that can't be passed to an agent, and those that the settings do not allow.
    ///
    /// # Errors
    /// Exit code 2 with one line that names the value.
    pub fn checked(self, around: &ResolveContext<'_>) -> Result<Self, Failure> {
        let texts =
            [&self.prompt].into_iter().chain(&self.setup).chain(&self.checks).chain(self.env.values());
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(Failure::usage("a NUL byte can't be passed to a command: remove it"));
        }
        let script = Some(&self.prompt).filter(|_| self.runner == Runner::Shell);
        if let Some(line) =
            script.into_iter().chain(&self.setup).chain(&self.checks).find(|line| has_crlf(line))
        {
            let line = one_line(line, common::event::MAX_TITLE);
            return Err(Failure::usage(format!(
                "the command line '{line}' has a carriage return at the end of a line (CRLF), which the \
                shell reads as part of the last word: remove it, for example with `tr -d '\\r'`"
            )));
        }
        // The number is not assigned yet: the longest one is assumed.
        let spec = self.spec(&JobId::new(self.name.clone(), u32::MAX));
        let len = serde_json::to_vec(&spec).map_or(usize::MAX, |spec| spec.len());
        if len > MAX_SPEC {
            return Err(Failure::usage(format!(
                "the job takes {len} bytes, more than {MAX_SPEC}: put long texts into files of the workspace"
            )));
        }
        Policy::new(around.engine, around.config).authorize(spec).map_err(Failure::usage)?;
        Ok(self)
    }
}

fn has_crlf(line: &str) -> bool {
    line.ends_with('\r') || line.contains("\r\n")
}

/// Resolves the flags of `relay launch`. `stdin` is read for the prompt `-` only.
///
/// # Errors
/// Exit code 2 with one line that names the wrong flag and the fix.
pub fn launch(args: &LaunchArgs, around: &ResolveContext<'_>, stdin: impl Read) -> Result<Launch, Failure> {
    let (typed, codex_args) =
        prompt::behind_dashes(args.prompt.as_deref(), args.file.is_some(), &args.codex_args);
    let runner = match args.runner {
        RunnerName::Codex => Runner::Codex,
        RunnerName::Shell => Runner::Shell,
    };
    if runner == Runner::Shell && (args.model.is_some() || args.on_loop.is_some() || !codex_args.is_empty()) {
        return Err(Failure::usage(
            "--model, --on-loop and arguments after -- are for codex: omit them with --runner shell",
        ));
    }
    let prompt = prompt::read(typed, args.file.as_deref(), stdin)?;
    let configured = match runner {
        Runner::Shell => covered(&around.config.limits, args.limits.timeout),
        Runner::Codex => around.config.limits.clone(),
    };
    let limits = limits::resolve(&configured, &args.limits)?;
    let env = environment(&args.env, around.variable)?;
    let workspace = workspace::resolve(around.engine, &around.config.platform, around.cwd, &args.workspace)?;
    let mut codex = around.config.codex.settings(around.engine);
    if let Some(model) = &args.model {
        codex.model = Some(model.clone());
    }
    codex.args.extend_from_slice(codex_args);
    Launch {
        name: args.name.clone().unwrap_or_else(|| name_of(&workspace)),
        workspace,
        engine: around.engine,
        runner,
        prompt,
        env,
        setup: args.setup.clone(),
        checks: args.check.clone(),
        limits,
        rules: around.config.rules.clone(),
        on_limit: args.on_limit.map_or(around.config.on_limit, OnLimitName::resolve),
        on_loop: args.on_loop.map_or(around.config.on_loop, OnLoopName::resolve),
        codex,
        thread: None,
        origin: Origin { session: session::session(around.variable), ..Origin::default() },
    }
    .checked(around)
}

/// Resolves the flags of `relay run`.
///
/// # Errors
/// As [`launch`].
pub fn command(args: &RunArgs, around: &ResolveContext<'_>) -> Result<Launch, Failure> {
    let prompt = match args.command.as_slice() {
        // A single word with spaces is a command line that was quoted as a whole.
        [line] if line.contains(char::is_whitespace) => line.clone(),
        words => shell_words::join(words),
    };
    if prompt.trim().is_empty() {
        return Err(Failure::usage("the command is empty: write it after --"));
    }
    let configured = covered(&around.config.limits, args.timeout);
    let flags = LimitFlags { timeout: args.timeout, step_timeout: Vec::new(), stall: args.stall.clone() };
    let limits = limits::resolve(&configured, &flags)?;
    let workspace = workspace::resolve(around.engine, &around.config.platform, around.cwd, &args.workspace)?;
    Launch {
        name: args.name.clone().unwrap_or_else(|| name_of(&workspace)),
        workspace,
        engine: around.engine,
        runner: Runner::Shell,
        prompt: prompt::bounded(prompt)?,
        env: BTreeMap::new(),
        setup: Vec::new(),
        checks: Vec::new(),
        limits,
        rules: around.config.rules.clone(),
        on_limit: around.config.on_limit,
        on_loop: around.config.on_loop,
        codex: around.config.codex.settings(around.engine),
        thread: None,
        origin: Origin { session: session::session(around.variable), attended: true, ..Origin::default() },
    }
    .checked(around)
}

/// Raises the step limits to the timeout of the whole command, so that no step limit is shorter.
fn covered(configured: &Limits, timeout: Option<Duration>) -> Limits {
    let mut limits = configured.clone();
    if let Some(timeout) = timeout {
        for kind in StepKind::ALL {
            limits.steps.insert(kind, limits.step_ms(kind).max(duration::millis(timeout)));
        }
    }
    limits
}

fn name_of(workspace: &Workspace) -> JobName {
    JobName::from_folder(&workspace.host.file_name().unwrap_or_default().to_string_lossy())
}

/// Returns the variables of `--env KEY` and `--env KEY=VALUE`.
///
/// # Errors
/// Exit code 2 with one line that names the variable without a usable name or value.
pub fn environment(
    wanted: &[String],
    variable: &dyn Fn(&str) -> Result<String, VarError>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for entry in wanted {
        let (key, value) = match entry.split_once('=') {
            Some((key, value)) => (key, Ok(value.to_owned())),
            None => (entry.as_str(), variable(entry)),
        };
        let value = value.map_err(|e| match e {
            VarError::NotPresent => {
                Failure::usage(format!("--env {key}: it is not set here: set it, or pass {key}=VALUE"))
            }
            VarError::NotUnicode(_) => Failure::usage(format!("--env {key}: its value is not UTF-8")),
        })?;
        if key.is_empty() || key.contains('\0') {
            return Err(Failure::usage("--env: a variable without a name: pass KEY or KEY=VALUE"));
        }
        env.insert(key.to_owned(), value);
    }
    Ok(env)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
