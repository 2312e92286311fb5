//! The command `relay up`: starts the daemon and its platform in the background.

use std::time::{Duration, Instant};

use clap::Args;

use super::help::after_help;
use super::{Context, approve, down};
use crate::approval::{self, ApprovableSettings, ApprovalState};
use crate::engine::image;
use crate::engine_kind::EngineKind;
use crate::exit::{ExitCode, Failure};
use crate::files::watch::FolderWatch;
use crate::registry::lease::{self, Lease, PlatformStatus};
use crate::registry::requests::{self, DaemonRequest};
use crate::state_dir::StateDir;
use crate::{plural, policy, start_daemon};

/// Time limit for the daemon to handle a request. The daemon looks for requests every few seconds, even without a file
/// event.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit for the end of a daemon that could not start its platform.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);

/// Flags of `relay up`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay up", "relay up --build --engine docker"]))]
pub struct UpArgs {
    /// Engine of the platform: docker, podman or local [default: as in relay.toml, else the last approved one, else
    /// docker]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<EngineKind>,
    /// Build the image of the platform first
    #[arg(long)]
    pub build: bool,
    /// Approve the settings without a question, for scripts; refused in a session of a coding agent
    #[arg(long)]
    pub yes: bool,
    /// Approve the settings and start nothing
    #[arg(long, conflicts_with = "build")]
    pub no_start: bool,
}

/// Starts relay and platform and returns when they accept jobs. Repeating the call is harmless.
///
/// # Errors
/// Exit code 2 if a relay with another engine is running. Exit code 5 with the reason if the platform can't accept jobs
/// (a relay started by this call is stopped again), or if no person has approved the settings.
pub fn run(args: &UpArgs, context: &Context) -> Result<ExitCode, Failure> {
    let config = context.read_config()?;
    let is_running = lease::is_held(&context.registry);
    let running_engine = is_running.then(|| start_daemon::running_engine(&config));
    let engine = start_daemon::choose_engine(args.engine.or(running_engine), &config);
    if let Some(running) = running_engine.filter(|running| *running != engine) {
        return Err(Failure::usage(format!(
            "a relay with engine {running} is up: stop it with `relay down` first"
        )));
    }
    let settings = ApprovableSettings::new(engine, &config);
    if args.build || args.no_start || !is_running {
        context.require_no_sandbox("up")?;
        StateDir::for_project(&context.root)?;
        policy::check_settings(engine, &config)?;
        approve::require_approval(context, &settings, args.yes, "up")?;
    }
    if args.no_start {
        return Ok(ExitCode::Done);
    }
    if args.build {
        if !engine.is_container() {
            return Err(Failure::usage("engine local has no image to build: omit --build"));
        }
        image::build_image(engine, &config.platform, &settings)?;
    }
    if is_running {
        request_platform_start(context)?;
    }
    start_daemon::ensure_daemon(&context.root, &context.registry, &settings, context.initiator())?;
    let lease = start_daemon::wait_for_platform(&context.registry).inspect_err(|_| {
        // A relay that this command has started is stopped again, because it would block a start with another engine.
        if !is_running {
            // If the engine does not respond, the daemon ends after this time limit.
            let request = |relay| DaemonRequest::Down { relay: Some(relay) };
            let _ = down::end_daemon(&context.registry, request, EXIT_TIMEOUT);
        }
    })?;
    print_relay_state(context, &lease);
    if is_running && let ApprovalState::Changed(lines) = approval::approval_state(&context.root, &settings) {
        let changed = ChangedSettings::from_lines(&lines);
        if !changed.daemon.is_empty() {
            let names = changed.daemon.join(", ");
            context
                .output
                .print_note(&format!("restart needed for {names}: `relay restart` (workers go on)"));
        }
        print_platform_changes(context, &changed.platform);
        if !changed.launch.is_empty() {
            let names = changed.launch.join(", ");
            context.output.print_note(&format!("the next launch uses the new {names}: nothing to do"));
        }
    }
    Ok(ExitCode::Done)
}

/// Names of changed settings, by what applies them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ChangedSettings<'a> {
    /// Settings that the daemon reads at its start.
    daemon: Vec<&'a str>,
    /// Settings with which the platform is created.
    pub(super) platform: Vec<&'a str>,
    /// Settings that each launch reads.
    launch: Vec<&'a str>,
}

impl<'a> ChangedSettings<'a> {
    /// Sorts the settings in the lines of a change.
    pub(super) fn from_lines(lines: &'a [String]) -> Self {
        const DAEMON: [&str; 6] =
            ["relay.", "network.", "notify.", "codex.", "platform.min_free_", "prices."];
        let mut changed = Self::default();
        for name in approval::changed_names(lines) {
            let is_daemon_setting = DAEMON.iter().any(|table| name.starts_with(table));
            match name {
                _ if is_daemon_setting => changed.daemon.push(name),
                _ if name.starts_with("budget.") => changed.launch.push(name),
                _ => changed.platform.push(name),
            }
        }
        changed
    }
}

/// Prints the changed settings that take effect with the next platform.
pub(super) fn print_platform_changes(context: &Context, names: &[&str]) {
    if !names.is_empty() {
        let names = names.join(", ");
        context.output.print_note(&format!("new platform needed for {names}: `relay down`, then `relay up`"));
    }
}

/// Asks the running daemon to start its platform, because the daemon may have paused its attempts. Returns early if the
/// daemon ends.
fn request_platform_start(context: &Context) -> Result<(), Failure> {
    let registry = &context.registry;
    let watch = FolderWatch::registry_folder(&registry.requests());
    requests::file_request(registry, &DaemonRequest::Up).map_err(|e| registry.not_writable(&e))?;
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let is_pending = || {
        requests::pending_requests(registry)
            .is_ok_and(|all| all.iter().any(|filed| filed.request == Some(DaemonRequest::Up)))
    };
    while lease::is_held(registry) && is_pending() && watch.wait(Some(deadline)) {}
    Ok(())
}

/// Prints the state of a relay that is up.
pub(super) fn print_relay_state(context: &Context, lease: &Lease) {
    if context.output.json {
        context.output.print_json(lease);
        return;
    }
    if let PlatformStatus::Ready { max_jobs, codex, codex_problem, .. } = &lease.platform {
        let codex = codex.as_ref().map_or(String::new(), |version| format!(", codex {version}"));
        context.output.print(&format!(
            "relay is up: engine {}, {}{codex}",
            lease.engine,
            plural::format_capacity(*max_jobs)
        ));
        context.output.print_note("ready: run `relay launch -w DIR \"TASK\"`");
        if let Some(problem) = codex_problem {
            context.output.print_note(&format!("no Codex worker can run: {problem}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_settings_are_named_by_what_applies_them() {
        let lines =
            ["+ prices.m.input = 2.0", "- budget.job = 5", "+ budget.job = 6", "+ model.gateway = true"];
        let lines = lines.map(str::to_owned);
        let changed = ChangedSettings::from_lines(&lines);
        assert_eq!((changed.daemon, changed.launch), (vec!["prices.m.input"], vec!["budget.job"]));
        assert_eq!(changed.platform, ["model.gateway"]);
    }
}
