//! A launch → a job in the registry, and the relay that will run it.

use common::ids::JobId;
use jiff::Timestamp;

use super::Context;
use super::resolve::Launch;
use crate::approval::Settings;
use crate::config::Config;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::registry::Registry;
use crate::registry::create::{self, Created, Draft};
use crate::registry::lease::{self, Lease};
use crate::registry::requests::{self, Request};
use crate::start_daemon;

/// Relay that will run the job.
pub struct Target {
    /// Engine of the running relay, else of the next one.
    pub engine: EngineKind,
    /// Its daemon.
    pub daemon: Daemon,
}

/// Daemon of a registry, as a launch needs it.
pub enum Daemon {
    /// Holds the registry; the lease may not be written yet.
    Running(Option<Box<Lease>>),
    /// None is running: the settings for starting one.
    Absent(Settings),
}

impl Target {
    /// Lease of the running relay.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.daemon {
            Daemon::Running(lease) => lease.as_deref(),
            Daemon::Absent(_) => None,
        }
    }

    /// Current time on the scale of the registry's records.
    fn now(&self, registry: &Registry) -> Timestamp {
        self.lease().map_or_else(|| lease::now(registry), |lease| lease::now_of(Some(lease)))
    }
}

/// Finds the relay that will run a job.
pub fn target(context: &Context, config: &Config) -> Target {
    if lease::is_held(&context.registry) {
        let daemon = Daemon::Running(lease::read(&context.registry).map(Box::new));
        return Target { engine: start_daemon::engine_of_living(config), daemon };
    }
    let engine = start_daemon::engine(None, config);
    Target { engine, daemon: Daemon::Absent(Settings::new(engine, config)) }
}

/// Writes the job durably and notifies the relay.
///
/// # Errors
/// Exit code 5 if the registry can't be written. No job is created then.
pub fn submit(
    context: &Context,
    launch: &Launch,
    target: &Target,
    key: Option<&str>,
) -> Result<Created, Failure> {
    let registry = &context.registry;
    registry.ensure()?;
    let spec = |job: &JobId| launch.spec(job);
    let draft = Draft {
        name: launch.name.clone(),
        at: target.now(registry),
        spec: &spec,
        workspace: launch.workspace.host.display().to_string(),
        engine: launch.engine.to_string(),
        origin: launch.origin.clone(),
        key,
    };
    let created = create::create(registry, &draft).map_err(|e| registry.not_writable(&e))?;
    if let Created::New(job) = &created {
        // Only a hint: without it the relay finds the record a little later.
        let _ = requests::file(registry, &Request::Launch { job: job.clone() });
    }
    Ok(created)
}
