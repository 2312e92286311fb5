//! A launch in which every option is decided. All errors are found before anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::env::VarError;
use std::path::Path;
use std::time::Duration;

use common::budget::Budget;
use common::duration;
use common::expectation::{Expectation, MAX_EXPECTATIONS};
use common::hold::OnQuota;
use common::ids::{JobId, JobName};
use common::job::{CodexSettings, JobSpec, Limits, MAX_SPEC, Runner, SPEC_SCHEMA_VERSION, StepKind};
use common::origin::Origin;
use common::place::PlaceSpec;
use common::rule::{OnLimit, OnLoop, StepRule};
use common::text_format::one_line;

use super::budget;
use super::images::LaunchImages;
use crate::config::Config;
use crate::engine::workspace::Workspace;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::model_server::UpstreamSettings;
use crate::policy::{self, JobPolicy};
use crate::registry::create::Schedule;

/// Context of a launch, beside its flags.
pub struct ResolveContext<'a> {
    /// Settings of `relay.toml`.
    pub config: &'a Config,
    /// Engine that will run the job.
    pub engine: EngineKind,
    /// Current folder.
    pub cwd: &'a Path,
    /// Reads a variable of the caller's environment.
    pub caller_variable: &'a dyn Fn(&str) -> Result<String, VarError>,
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
    /// Task of the job, or its command line with the shell as runner.
    pub prompt: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Command lines to run before the worker.
    pub setup: Vec<String>,
    /// Command lines to run after the worker.
    pub checks: Vec<String>,
    /// Conditions on the result of the job.
    pub expect: Vec<Expectation>,
    /// Images for Codex.
    pub images: Option<LaunchImages>,
    /// Time limits of the job and of its steps.
    pub limits: Limits,
    /// Rules that assign kinds and limits to command lines.
    pub rules: Vec<StepRule>,
    /// Action when a step exceeds its limit.
    pub on_limit: OnLimit,
    /// Action when the worker is stuck in a loop.
    pub on_loop: OnLoop,
    /// Action when the account's usage limit is reached.
    pub on_quota: OnQuota,
    /// Settings for calling Codex.
    pub codex: CodexSettings,
    /// Codex thread to continue.
    pub thread_id: Option<String>,
    /// Origin of the job.
    pub origin: Origin,
    /// The job's own clone of the repository; `None` if it works in the workspace itself.
    pub place: Option<LaunchPlace>,
    /// True if the job does not wait for other jobs in its workspace.
    pub shares_workspace: bool,
    /// Conditions for the start of the job.
    pub schedule: Schedule,
}

/// The place (clone) of a job that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlace {
    pub spec: PlaceSpec,
    /// True if the user named the branch; otherwise it is named after the job.
    pub is_named: bool,
}

impl LaunchPlace {
    /// Returns the place of attempt number `n`, whose branch gets that number.
    pub(super) fn for_attempt(&self, n: u32) -> Result<Self, String> {
        let spec = self.spec.clone().with_branch(&format!("{}-{n}", self.spec.branch()))?;
        Ok(Self { spec, is_named: self.is_named })
    }

    /// Returns the place of the job with this id.
    fn spec_for(&self, job: &JobId) -> PlaceSpec {
        if self.is_named { self.spec.clone() } else { self.spec.clone().named_after(job) }
    }
}

impl Launch {
    /// Builds the spec for the given job id.
    pub fn spec(&self, job: &JobId) -> JobSpec {
        JobSpec {
            schema: SPEC_SCHEMA_VERSION,
            job: job.clone(),
            runner: self.runner,
            prompt: self.prompt.clone(),
            workspace: self.workspace.worker_path.clone(),
            env: self.env.clone(),
            env_names: BTreeSet::new(),
            setup: self.setup.clone(),
            checks: self.checks.clone(),
            limits: self.limits.clone(),
            rules: self.rules.clone(),
            on_limit: self.on_limit,
            on_loop: self.on_loop,
            on_quota: if self.runner == Runner::Codex { self.on_quota } else { OnQuota::default() },
            codex: self.codex.clone(),
            thread: self.thread_id.clone(),
            place: self.place.as_ref().map(|place| place.spec_for(job)),
            expect: self.expect.clone(),
            share: self.shares_workspace && self.place.is_none(),
            images: self.images.as_ref().map(|images| images.names.clone()).unwrap_or_default(),
        }
    }

    /// Rejects values that can't be passed to an agent or that the settings do not allow.
    ///
    /// # Errors
    /// Exit code 2 with one line that names the value.
    pub fn validate(self, context: &ResolveContext<'_>) -> Result<Self, Failure> {
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
        if self.expect.len() > MAX_EXPECTATIONS {
            return Err(Failure::usage(format!("--expect: at most {MAX_EXPECTATIONS} expectations")));
        }
        // The job's number is not assigned yet, so the longest number is assumed.
        let spec = self.spec(&JobId::new(self.name.clone(), u32::MAX));
        let len = serde_json::to_vec(&spec).map_or(usize::MAX, |spec| spec.len());
        if len > MAX_SPEC {
            return Err(Failure::usage(format!(
                "the job takes {len} bytes, more than {MAX_SPEC}: put long texts into files of the workspace"
            )));
        }
        policy::check_allowed_hosts(context.engine, context.config)?;
        budget::check_budget(
            &self.limits.budget,
            self.runner,
            self.codex.model.as_deref(),
            UpstreamSettings::default_model,
            (context.engine, context.config),
        )?;
        let policy = JobPolicy::new(context.engine, context.config);
        let authorized =
            if self.workspace.is_source { policy.authorize_for_clone(spec) } else { policy.authorize(spec) };
        authorized.map_err(Failure::usage)?;
        Ok(self)
    }
}

fn has_crlf(line: &str) -> bool {
    line.ends_with('\r') || line.contains("\r\n")
}

/// Returns the limits of a command line: step limits that are lower than the timeout of the whole command are raised to
/// that timeout.
pub(super) fn raise_step_limits(configured_limits: &Limits, timeout: Option<Duration>) -> Limits {
    // A command line uses no model.
    let mut limits = Limits { budget: Budget::default(), ..configured_limits.clone() };
    if let Some(timeout) = timeout {
        for kind in StepKind::ALL.iter().copied() {
            limits.steps.insert(kind, limits.step_ms(kind).max(duration::to_millis(timeout)));
        }
    }
    limits
}

/// Returns the name of a job that is launched without one: that of the workspace's folder.
pub(super) fn default_job_name(workspace: &Workspace) -> JobName {
    JobName::from_folder(&workspace.host_path.file_name().unwrap_or_default().to_string_lossy())
}

/// Returns the variables of `--env KEY` and `--env KEY=VALUE`.
///
/// # Errors
/// Exit code 2 with one line that names the variable without a usable name or value.
pub fn resolve_env_flags(
    flags: &[String],
    variable: &dyn Fn(&str) -> Result<String, VarError>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for entry in flags {
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
