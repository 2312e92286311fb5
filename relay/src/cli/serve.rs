//! `relay serve`: the daemon in the foreground.

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{Context, agree};
use crate::consent::{self, Settings};
use crate::engine::EngineKind;
use crate::exit::{Code, Failure};
use crate::state_dir::StateDir;
use crate::{daemon, policy, start};

/// Flags of `relay serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Engine for the workers [default: relay.toml's, else the one that you agreed to last, else docker]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<EngineKind>,
    /// Agree to the settings without being asked
    #[arg(long)]
    pub yes: bool,
    /// The settings that were agreed to: with these or not at all
    #[arg(long, value_name = "DIGEST", hide = true, conflicts_with = "yes")]
    pub agreed: Option<String>,
}

/// Serves until Ctrl-C, SIGTERM or `relay down`; says what it does on stderr, as much as `RUST_LOG` asks for.
///
/// # Errors
/// Exit code 2 when another relay serves the registry, 5 when the port or the registry can't be had, or for settings that no
/// person has agreed to.
pub fn run(args: &ServeArgs, context: &Context) -> Result<Code, Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // They would be told on stderr, and a stderr on a full disk ends who writes to it.
        .log_internal_errors(false)
        .init();
    let config = context.config()?;
    let engine = start::engine(args.engine, &config);
    StateDir::of(&context.root)?;
    policy::check_settings(engine, &config)?;
    let settings = Settings::of(engine, &config);
    match &args.agreed {
        // The file may have changed since the command that started this looked at it.
        Some(digest) if *digest != settings.digest() => {
            return Err(consent::refusal(&context.root, context.asker(), true));
        }
        Some(_) => consent::check(&context.root, context.asker(), &settings)?,
        None => agree::settle(context, &settings, args.yes)?,
    }
    daemon::serve(&config, &context.root, &context.registry, engine).map(|()| Code::Done)
}
