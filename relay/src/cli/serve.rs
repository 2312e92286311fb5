//! The command `relay serve`: runs the daemon in the foreground.

use std::path::Path;

use clap::Args;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::help::after_help;
use super::{Context, approve};
use crate::approval::{self, ApprovableSettings};
use crate::config::Config;
use crate::engine_kind::EngineKind;
use crate::exit::{ExitCode, Failure};
use crate::registry::Registry;
use crate::state_dir::StateDir;
use crate::{policy, start_daemon};

/// Function that runs the daemon: it serves the registry of the project at a root, with an engine, until the daemon
/// ends.
pub type ServeFn = fn(&Config, &Path, &Registry, EngineKind) -> Result<(), Failure>;

/// Flags of `relay serve`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay serve", "relay serve --engine local --yes"]))]
pub struct ServeArgs {
    /// Engine of the platform: docker, podman or local [default: as in relay.toml, else the last approved one, else
    /// docker]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<EngineKind>,
    /// Approve the settings without a question
    #[arg(long)]
    pub yes: bool,
    /// Digest of the approved settings
    #[arg(long, value_name = "DIGEST", hide = true, conflicts_with = "yes")]
    pub approved_digest: Option<String>,
}

/// Runs the daemon until Ctrl-C, SIGTERM or `relay down`. The daemon logs to stderr, at the level of `RUST_LOG`.
///
/// # Errors
/// Exit code 2 if another relay serves the registry. Exit code 5 if the port or the registry is not available, or if no
/// person has approved the settings.
pub fn run(args: &ServeArgs, context: &Context, serve: ServeFn) -> Result<ExitCode, Failure> {
    let env_levels = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Internal errors are printed to stderr. If stderr is on a full disk, that write would end the process.
        .log_internal_errors(false);
    let levels = env_levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(levels).with(log).init();
    let config = context.read_config()?;
    let engine = start_daemon::choose_engine(args.engine, &config);
    StateDir::for_project(&context.root)?;
    policy::check_settings(engine, &config)?;
    let settings = ApprovableSettings::new(engine, &config);
    match &args.approved_digest {
        // The settings may have changed since the command that starts this daemon read them.
        Some(digest) if *digest != settings.digest() => {
            return Err(approval::refusal(&context.root, context.initiator(), true, "up"));
        }
        Some(_) => approval::require_approval(&context.root, context.initiator(), &settings)?,
        None => approve::require_approval(context, &settings, args.yes, "up")?,
    }
    serve(&config, &context.root, &context.registry, engine).map(|()| ExitCode::Done)
}
