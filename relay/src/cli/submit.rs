//! Creation of a job in the registry, and the search for the relay that will run the job, or its start.

use std::fs::File;

use clap::Args;
use common::ids::JobId;
use common::job::Runner;
use jiff::Timestamp;

use super::Context;
use super::resolve::Launch;
use crate::approval::ApprovableSettings;
use crate::config::Config;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::registry::Registry;
use crate::registry::create::{self, CreateResult, JobDraft};
use crate::registry::lease::{self, Lease, PlatformStatus};
use crate::registry::requests::{self, DaemonRequest};
use crate::start_daemon;

/// The relay that will run a job.
pub struct LaunchTarget {
    /// Engine of the running relay, else of the next one.
    pub engine: EngineKind,
    /// State of the registry's daemon.
    pub daemon: DaemonState,
}

/// State of a registry's daemon.
pub enum DaemonState {
    /// The daemon runs and holds the registry; the lease may not be written yet.
    Running(Option<Box<Lease>>),
    /// No daemon is running; contains the settings to start one.
    Absent(ApprovableSettings),
}

impl LaunchTarget {
    /// Returns the lease of the running relay.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.daemon {
            DaemonState::Running(lease) => lease.as_deref(),
            DaemonState::Absent(_) => None,
        }
    }

    /// Returns the current time by the registry's clock, which also gave the times in the records.
    fn registry_time(&self, registry: &Registry) -> Timestamp {
        self.lease()
            .map_or_else(|| lease::current_time(registry), |lease| lease::current_time_of(Some(lease)))
    }
}

/// Determines the engine of a launch, and whether the daemon is running.
pub fn find_target(context: &Context, config: &Config) -> LaunchTarget {
    if lease::is_held(&context.registry) {
        let daemon = DaemonState::Running(lease::read_lease(&context.registry).map(Box::new));
        return LaunchTarget { engine: start_daemon::running_engine(config), daemon };
    }
    let engine = start_daemon::choose_engine(None, config);
    LaunchTarget { engine, daemon: DaemonState::Absent(ApprovableSettings::new(engine, config)) }
}

/// Writes the job of a resolved launch durably, with the pack of uncommitted files if there is one, and notifies the
/// daemon.
///
/// # Errors
/// Exit code 5 if the registry can't be written. No job is created then.
pub fn submit_job(
    context: &Context,
    launch: &Launch,
    pack: Option<&File>,
    target: &LaunchTarget,
    key: Option<&str>,
) -> Result<CreateResult, Failure> {
    let registry = &context.registry;
    registry.ensure()?;
    let spec = |job: &JobId| launch.spec(job);
    let draft = JobDraft {
        name: launch.name.clone(),
        launched_at: target.registry_time(registry),
        build_spec: &spec,
        workspace: launch.workspace.host_path.display().to_string(),
        engine: launch.engine.to_string(),
        origin: launch.origin.clone(),
        schedule: launch.schedule.clone(),
        pack,
        images: launch.images.as_ref().map(|images| &*images.archive),
        key,
    };
    let created = create::create_job(registry, &draft).map_err(|e| registry.not_writable(&e))?;
    if let CreateResult::New(job) = &created {
        // The request is only a hint: without it, the daemon finds the record a little later.
        let _ = requests::file_request(registry, &DaemonRequest::Launch { job: job.clone() });
    }
    Ok(created)
}

/// Flags for the launch of a job and its output.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct StartFlags {
    /// Idempotency key: a second launch with the same key starts nothing and prints the first job
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Block until the job has ended, then print its summary
    #[arg(long)]
    pub(super) wait: bool,
    /// Print only the job's id
    #[arg(short, long, conflicts_with = "wait")]
    pub(super) quiet: bool,
}

/// Starts a relay if none is running. Returns true if one is running now.
pub(super) fn start_relay_if_needed(context: &Context, target: &LaunchTarget, flags: &StartFlags) -> bool {
    match &target.daemon {
        DaemonState::Running(_) => true,
        DaemonState::Absent(settings) => start_relay(context, settings, flags.quiet),
    }
}

/// Rejects a Codex job if no Codex worker can run.
pub(super) fn refuse_without_codex(launch: &Launch, target: &LaunchTarget) -> Result<(), Failure> {
    match target.lease().map(|lease| &lease.platform) {
        Some(PlatformStatus::Ready { codex_problem: Some(problem), .. })
            if launch.runner == Runner::Codex =>
        {
            Err(Failure::unreachable(format!("no Codex worker can run: {problem}")))
        }
        _ => Ok(()),
    }
}

/// Starts the relay and prints whether it started. Returns true if a relay is running now; otherwise the job stays
/// queued.
fn start_relay(context: &Context, settings: &ApprovableSettings, is_quiet: bool) -> bool {
    match start_daemon::ensure_daemon(&context.root, &context.registry, settings, context.initiator()) {
        Ok(()) => {
            if !is_quiet {
                context.output.print_note("no relay was running: started one");
            }
            true
        }
        Err(failure) => {
            context.output.print_note(&format!("queued: no relay is running: {failure}"));
            false
        }
    }
}
