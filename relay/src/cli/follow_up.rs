//! An earlier job, and the settings that its follow-up inherits. All errors are found before anything is written.

use std::collections::BTreeMap;
use std::io;

use common::ids::JobId;
use common::job::{JobSpec, MAX_IMAGE_BYTES, Runner, is_thread_id};
use common::origin::{FollowUp, Follows, Origin};
use common::record::JobRecord;

use super::images::LaunchImages;
use super::resolve::{self, ResolveContext};
use super::{job_ref, session};
use crate::engine::workspace::{self, Workspace};
use crate::exit::Failure;
use crate::registry::create::{self, Group, Schedule};
use crate::registry::{Registry, lineage, read};

/// An ended job, with its spec.
#[derive(Debug, Clone, PartialEq)]
pub struct EarlierJob {
    /// Record of the job.
    pub record: JobRecord,
    /// Spec of the job, without the values of its environment.
    pub spec: JobSpec,
    /// A predecessor or successor of the job that has not ended, if there is one.
    pub unfinished_job: Option<JobId>,
    /// Images of the job.
    pub images: Option<LaunchImages>,
}

impl EarlierJob {
    /// Finds the job that the user named.
    ///
    /// # Errors
    /// Exit code 3 if the job does not exist, 2 if it is ambiguous or has not ended, 5 if it can't be read.
    pub fn find(registry: &Registry, user_input: &str) -> Result<Self, Failure> {
        let job = read::resolve_job(registry, user_input)?;
        let stored = job_ref::read_record(registry, &job)?;
        let record = stored.record;
        if !record.state.is_final() {
            let state = record.state.as_str();
            return Err(Failure::usage(format!(
                "{job} has not ended ({state}): `relay wait {job}` or `relay cancel {job}` first"
            )));
        }
        // The daemon may archive the job between the two reads.
        let bytes = stored
            .registry
            .spec(&job)
            .read(read::MAX_FILE_SIZE)
            .or_else(|_| registry.archive_registry().spec(&job).read(read::MAX_FILE_SIZE))
            .map_err(|e| job_ref::unreadable_file(&job, "spec", &e))?;
        let spec = serde_json::from_slice(&bytes).map_err(|e| {
            job_ref::unreadable_file(&job, "spec", &io::Error::new(io::ErrorKind::InvalidData, e))
        })?;
        let images = read_images(registry, &stored.registry, &job, &spec)?;
        let mut linked = lineage::predecessors(registry, &record);
        linked.extend(lineage::successors(registry, &job));
        let unfinished = linked.into_iter().find(|other| !other.state.is_final()).map(|other| other.job);
        Ok(Self { record, spec, unfinished_job: unfinished, images })
    }

    /// Returns the origin of the follow-up.
    pub(super) fn follow_up_origin(&self, kind: FollowUp, context: &ResolveContext<'_>) -> Origin {
        Origin {
            session: session::calling_session(context.caller_variable),
            follows: Some(Follows { job: self.record.job.clone(), how: kind }),
            attended: false,
        }
    }

    /// Returns the schedule of the follow-up: it waits for a slot of the same group, and for no other job.
    pub(super) fn follow_up_schedule(&self) -> Schedule {
        let group = self.record.group.clone().map_or(Group::None, Group::Named);
        Schedule { group, ..Schedule::default() }
    }

    /// Returns the id of the Codex thread that the job ran in.
    pub(super) fn thread_id(&self) -> Result<&str, Failure> {
        let job = &self.record.job;
        let why = match (self.spec.runner, &self.record.thread_id) {
            (Runner::Shell, _) => "is a shell job and has no Codex thread to continue",
            (Runner::Codex, Some(thread)) if is_thread_id(thread) => return Ok(thread),
            (Runner::Codex, _) => "ended before Codex started a thread",
        };
        Err(Failure::usage(format!("{job} {why}: `relay retry {job}` runs its task again")))
    }

    /// Checks that the thread can be continued here. A thread exists only on the platform where it ran.
    pub(super) fn check_thread(&self, context: &ResolveContext<'_>) -> Result<(), Failure> {
        let (job, engine) = (&self.record.job, &self.record.engine);
        if *engine != context.engine.to_string() {
            return Err(Failure::usage(format!(
                "the Codex thread of {job} belongs to engine {engine}, but this relay uses engine {}: \
                `relay down`, then `relay up --engine {engine}`, or launch a new job",
                context.engine
            )));
        }
        self.check_idle()
    }

    /// Rejects the follow-up if another job uses the thread.
    ///
    /// # Errors
    /// Exit code 2 with the name of that job.
    pub fn check_idle(&self) -> Result<(), Failure> {
        match &self.unfinished_job {
            Some(unfinished) => Err(Failure::usage(format!(
                "{unfinished} uses the same Codex thread and has not ended: `relay wait {unfinished}` or `relay cancel \
                {unfinished}` first"
            ))),
            None => Ok(()),
        }
    }

    /// Returns the workspace of the follow-up.
    pub(super) fn follow_up_workspace(&self, context: &ResolveContext<'_>) -> Result<Workspace, Failure> {
        let dir = self.record.workspace.as_ref();
        if !context.cwd.join(dir).is_dir() {
            return Err(Failure::usage(format!(
                "the workspace {} of {} no longer exists: create it, or launch a new job",
                self.record.workspace, self.record.job
            )));
        }
        if self.spec.place.is_some() {
            return workspace::resolve_source(context.cwd, dir);
        }
        workspace::resolve_workspace(context.engine, &context.config.platform, context.cwd, dir)
    }

    /// Returns the environment of the follow-up: the variables of the earlier job, overridden by those of the flags.
    /// Values that the earlier job's spec no longer has come from the caller's environment.
    pub(super) fn follow_up_env(
        &self,
        flags: &[String],
        context: &ResolveContext<'_>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut env = self.spec.env.clone();
        env.extend(resolve::resolve_env_flags(flags, context.caller_variable)?);
        let mut missing = Vec::new();
        for name in &self.spec.env_names {
            if env.contains_key(name) {
                continue;
            }
            match (context.caller_variable)(name) {
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

/// Reads the images of a job. The daemon may archive the job meanwhile.
fn read_images(
    registry: &Registry,
    job_registry: &Registry,
    job: &JobId,
    spec: &JobSpec,
) -> Result<Option<LaunchImages>, Failure> {
    if spec.images.is_empty() {
        return Ok(None);
    }
    let read = |source: &Registry| source.images(job).read(2 * MAX_IMAGE_BYTES);
    let archive = read(job_registry).or_else(|_| read(&registry.archive_registry()));
    let archive = archive.map_err(|e| job_ref::unreadable_file(job, "images", &e))?;
    Ok(Some(LaunchImages { names: spec.images.clone(), archive: archive.into() }))
}

/// Returns the job that was launched with the same key before.
///
/// # Errors
/// Exit code 5 if the registry can't be read.
pub fn job_launched_with_key(registry: &Registry, key: Option<&str>) -> Result<Option<JobId>, Failure> {
    let Some(key) = key else { return Ok(None) };
    create::job_of_key(registry, key).map_err(|e| registry.not_readable(&e))
}

#[cfg(test)]
#[path = "follow_up_tests.rs"]
mod tests;
