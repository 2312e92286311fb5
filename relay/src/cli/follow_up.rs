//! An earlier job and raw flags → the launch of its follow-up. Every mistake is found here, before anything is written.

use std::collections::BTreeMap;
use std::io::{self, Read};

use common::ids::JobId;
use common::job::{JobSpec, Runner, is_thread};
use common::origin::{FollowUp, Follows, Origin};
use common::record::JobRecord;

use super::launch::{OnLimitName, OnLoopName};
use super::resolve::{self, Launch, ResolveContext};
use super::resume::ResumeArgs;
use super::retry::RetryArgs;
use super::{job_ref, limits, prompt, session};
use crate::engine::workspace::{self, Workspace};
use crate::exit::Failure;
use crate::registry::{Registry, create, lineage, read};

/// An ended job, with its spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// Record of the job.
    pub record: JobRecord,
    /// Spec of the job, without the values of its environment.
    pub spec: JobSpec,
    /// Linked job that has not ended: a predecessor or a successor.
    pub busy: Option<JobId>,
}

impl Earlier {
    /// Finds the job that was typed.
    ///
    /// # Errors
    /// Exit code 3 if the job does not exist, 2 if it is ambiguous or has not ended, 5 if it can't be read.
    pub fn find(registry: &Registry, typed: &str) -> Result<Self, Failure> {
        let job = read::resolve(registry, typed)?;
        let stored = job_ref::record(registry, &job)?;
        let record = stored.record;
        if !record.state.is_final() {
            let state = record.state.as_str();
            return Err(Failure::usage(format!(
                "{job} has not ended ({state}): `relay wait {job}` or `relay cancel {job}` first"
            )));
        }
        // The daemon may archive the job between the two reads.
        let bytes = stored
            .home
            .spec(&job)
            .read(read::MAX_FILE_SIZE)
            .or_else(|_| registry.archived().spec(&job).read(read::MAX_FILE_SIZE))
            .map_err(|e| job_ref::unreadable(&job, "spec", &e))?;
        let spec = serde_json::from_slice(&bytes)
            .map_err(|e| job_ref::unreadable(&job, "spec", &io::Error::new(io::ErrorKind::InvalidData, e)))?;
        let mut linked = lineage::predecessors(registry, &record);
        linked.extend(lineage::successors(registry, &job));
        let busy = linked.into_iter().find(|other| !other.state.is_final()).map(|other| other.job);
        Ok(Self { record, spec, busy })
    }

    fn follows(&self, how: FollowUp, around: &ResolveContext<'_>) -> Origin {
        Origin {
            session: session::session(around.variable),
            follows: Some(Follows { job: self.record.job.clone(), how }),
            attended: false,
        }
    }

    /// Codex thread of the job.
    fn thread(&self) -> Result<&str, Failure> {
        let job = &self.record.job;
        let why = match (self.spec.runner, &self.record.thread_id) {
            (Runner::Shell, _) => "is a shell job and has no Codex thread to continue",
            (Runner::Codex, Some(thread)) if is_thread(thread) => return Ok(thread),
            (Runner::Codex, _) => "ended before Codex started a thread",
        };
        Err(Failure::usage(format!("{job} {why}: `relay retry {job}` runs its task again")))
    }

    /// Checks that the thread can be continued: Codex keeps a thread where it ran, for one process at a time.
    fn check_thread(&self, around: &ResolveContext<'_>) -> Result<(), Failure> {
        let (job, engine) = (&self.record.job, &self.record.engine);
        if *engine != around.engine.to_string() {
            return Err(Failure::usage(format!(
                "the Codex thread of {job} belongs to engine {engine}, but this relay uses engine {}: \
                `relay down`, then `relay up --engine {engine}`, or launch a new job",
                around.engine
            )));
        }
        self.check_idle()
    }

    /// Rejects a thread that another job is using.
    ///
    /// # Errors
    /// Exit code 2 with the name of that job.
    pub fn check_idle(&self) -> Result<(), Failure> {
        match &self.busy {
            Some(busy) => Err(Failure::usage(format!(
                "{busy} uses the same Codex thread and has not ended: `relay wait {busy}` or `relay cancel \
                {busy}` first"
            ))),
            None => Ok(()),
        }
    }

    fn workspace(&self, around: &ResolveContext<'_>) -> Result<Workspace, Failure> {
        let dir = self.record.workspace.as_ref();
        if !around.cwd.join(dir).is_dir() {
            return Err(Failure::usage(format!(
                "the workspace {} of {} no longer exists: create it, or launch a new job",
                self.record.workspace, self.record.job
            )));
        }
        workspace::resolve(around.engine, &around.config.platform, around.cwd, dir)
    }

    /// Returns the environment of the follow-up: the variables of the flags, then those of the earlier job. The latter
    /// take their values from the spec if it still has them, else from the caller's environment.
    fn env(
        &self,
        flags: &[String],
        around: &ResolveContext<'_>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut env = self.spec.env.clone();
        env.extend(resolve::environment(flags, around.variable)?);
        let mut missing = Vec::new();
        for name in &self.spec.env_names {
            if env.contains_key(name) {
                continue;
            }
            match (around.variable)(name) {
                Ok(value) => drop(env.insert(name.clone(), value)),
                Err(_) => missing.push(name.as_str()),
            }
        }
        if missing.is_empty() {
            return Ok(env);
        }
        Err(Failure::usage(format!(
            "{} had {}, and values are not stored: set {} here, or pass {}",
            self.record.job,
            missing.join(", "),
            if missing.len() == 1 { "it" } else { "them" },
            missing.iter().map(|name| format!("--env {name}=VALUE")).collect::<Vec<_>>().join(" ")
        )))
    }
}

/// Returns the job that the same key launched before. Its predecessor need not be checked again.
///
/// # Errors
/// Exit code 5 if the registry can't be read.
pub fn known(registry: &Registry, key: Option<&str>) -> Result<Option<JobId>, Failure> {
    let Some(key) = key else { return Ok(None) };
    create::of_key(registry, key).map_err(|e| registry.not_readable(&e))
}

/// Resolves the flags of `relay resume`. `stdin` is read for the prompt `-` only.
///
/// # Errors
/// Exit code 2 with one line that describes the mistake and the fix.
pub fn resume(
    args: &ResumeArgs,
    earlier: &Earlier,
    around: &ResolveContext<'_>,
    stdin: impl Read,
) -> Result<Launch, Failure> {
    let thread = earlier.thread()?.to_owned();
    earlier.check_thread(around)?;
    let (typed, codex_args) =
        prompt::behind_dashes(args.prompt.as_deref(), args.file.is_some(), &args.codex_args);
    let prompt = prompt::read(typed, args.file.as_deref(), stdin)?;
    let old = &earlier.spec;
    let mut codex = around.config.codex.settings(around.engine);
    codex.model = args.model.clone().or_else(|| old.codex.model.clone()).or(codex.model);
    if codex_args.is_empty() {
        codex.args.clone_from(&old.codex.args);
    } else {
        codex.args.extend_from_slice(codex_args);
    }
    Launch {
        name: earlier.record.job.name().clone(),
        workspace: earlier.workspace(around)?,
        engine: around.engine,
        runner: Runner::Codex,
        prompt,
        env: earlier.env(&args.env, around)?,
        setup: args.setup.clone(),
        checks: match (args.no_check, args.check.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => old.checks.clone(),
            (false, false) => args.check.clone(),
        },
        limits: limits::resolve(&around.config.limits, &args.limits)?,
        rules: around.config.rules.clone(),
        on_limit: args.on_limit.map_or(around.config.on_limit, OnLimitName::resolve),
        on_loop: args.on_loop.map_or(around.config.on_loop, OnLoopName::resolve),
        codex,
        thread: Some(thread),
        origin: earlier.follows(FollowUp::Resume, around),
    }
    .checked(around)
}

/// Resolves the flags of `relay retry`.
///
/// # Errors
/// As [`resume`].
pub fn retry(args: &RetryArgs, earlier: &Earlier, around: &ResolveContext<'_>) -> Result<Launch, Failure> {
    let old = &earlier.spec;
    for (flag, is_given) in [("--model", args.model.is_some()), ("--on-loop", args.on_loop.is_some())] {
        if old.runner == Runner::Shell && is_given {
            return Err(Failure::usage(format!(
                "{flag} is for codex jobs, and {} is a shell job: omit it",
                earlier.record.job
            )));
        }
    }
    if old.thread.is_some() {
        earlier.check_thread(around)?;
    }
    let mut codex = around.config.codex.settings(around.engine);
    codex.model = args.model.clone().or_else(|| old.codex.model.clone());
    codex.args.clone_from(&old.codex.args);
    Launch {
        name: earlier.record.job.name().clone(),
        workspace: earlier.workspace(around)?,
        engine: around.engine,
        runner: old.runner,
        prompt: old.prompt.clone(),
        env: earlier.env(&args.env, around)?,
        setup: old.setup.clone(),
        checks: old.checks.clone(),
        limits: limits::resolve(&old.limits, &args.limits)?,
        rules: old.rules.clone(),
        on_limit: args.on_limit.map_or(old.on_limit, OnLimitName::resolve),
        on_loop: args.on_loop.map_or(old.on_loop, OnLoopName::resolve),
        codex,
        thread: old.thread.clone(),
        origin: earlier.follows(FollowUp::Retry, around),
    }
    .checked(around)
}

#[cfg(test)]
#[path = "follow_up_tests.rs"]
mod tests;
