//! The command `relay restart`: starts a new daemon with the current settings, while jobs continue.

use std::time::Duration;

use clap::Args;

use super::help::after_help;
use super::{Context, approve, down, up};
use crate::approval::{self, ApprovableSettings, ApprovalState};
use crate::exit::{ExitCode, Failure};
use crate::registry::lease;
use crate::registry::requests::DaemonRequest;
use crate::{policy, start_daemon};

/// Time limit for the daemon to end: time for its last writes, and a margin for a loaded machine.
const DAEMON_END_TIMEOUT: Duration = Duration::from_secs(20);

/// Flags of `relay restart`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Running jobs continue: their agent waits for the new relay. Changes of [platform] need `relay \
     down` and `relay up`, except for min_free_memory and min_free_disk.",
    ["relay restart", "relay restart --yes"]
))]
pub struct RestartArgs {
    /// Approve the settings without a question, for scripts; refused in a session of a coding agent
    #[arg(long)]
    pub yes: bool,
}

/// Ends the daemon, leaves its workers running, and starts a new daemon. Without a running daemon, does the same as
/// `relay up`.
///
/// # Errors
/// Exit code 5 if the daemon does not end. Otherwise the errors of `relay up`.
pub fn run(args: &RestartArgs, context: &Context) -> Result<ExitCode, Failure> {
    context.require_no_sandbox("restart")?;
    let registry = &context.registry;
    registry.check_owner()?;
    let config = context.read_config()?;
    let engine = if lease::is_held(registry) {
        start_daemon::running_engine(&config)
    } else {
        start_daemon::choose_engine(None, &config)
    };
    let settings = ApprovableSettings::new(engine, &config);
    policy::check_settings(engine, &config)?;
    let approval = approval::approval_state(&context.root, &settings);
    approve::require_approval(context, &settings, args.yes, "restart")?;
    let is_running = lease::is_held(registry);
    down::end_daemon(registry, |relay| DaemonRequest::Restart { relay }, DAEMON_END_TIMEOUT)?;
    start_daemon::ensure_daemon(&context.root, registry, &settings, context.initiator())?;
    up::print_relay_state(context, &start_daemon::wait_for_platform(registry)?);
    if let (true, ApprovalState::Changed(lines)) = (is_running, &approval) {
        up::print_platform_changes(context, &up::ChangedSettings::from_lines(lines).platform);
    }
    Ok(ExitCode::Done)
}
