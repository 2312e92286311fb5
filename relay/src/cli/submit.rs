//! A launch → a job in the registry, and the relay that will run it.

use common::ids::JobId;

use super::Context;
use super::resolve::Launch;
use crate::approval::Settings;
use crate::config::Config;
use crate::engine::EngineKind;
use crate::exit::Failure;
use crate::registry::create::{self, Created, Draft};
use crate::registry::lease::{self, Lease};
use crate::registry::requests::{self, Request};
use crate::start_daemon;

/// Relay that will run the job.
pub struct Target {
    /// Engine of the running relay, else of the next one.
    pub engine: EngineKind,
    /// Settings for starting a relay.
    pub settings: Settings,
    /// True if a relay holds the registry.
    pub lives: bool,
    /// Lease of the relay that holds the registry.
    pub lease: Option<Lease>,
}

/// Finds the relay that will run a job.
pub fn target(context: &Context, config: &Config) -> Target {
    let lives = lease::is_held(&context.registry);
    let lease = if lives { lease::read(&context.registry) } else { None };
    let engine =
        if lives { start_daemon::engine_of_living(config) } else { start_daemon::engine(None, config) };
    Target { engine, settings: Settings::new(engine, config), lives, lease }
}

/// Writes the job durably and notifies the relay.
///
/// # Errors
/// Exit code 5 if the registry can't be written. No job is created then.
pub fn submit(context: &Context, launch: &Launch, key: Option<&str>) -> Result<Created, Failure> {
    let registry = &context.registry;
    registry.ensure()?;
    let spec = |job: &JobId| launch.spec(job);
    let draft = Draft {
        name: launch.name.clone(),
        at: lease::now(registry),
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
