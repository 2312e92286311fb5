//! `relay serve`: the daemon in the foreground.

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::Context;
use crate::config::Config;
use crate::consent::{self, Asker, Matter};
use crate::engine::EngineKind;
use crate::exit::{Code, Failure};
use crate::{daemon, start};

/// Flags of `relay serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// What workers run on [default: relay.toml's, else that of the last relay, else docker]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<EngineKind>,
    /// A session of a host agent wants it: with the settings that a person has started before, or not at all
    #[arg(long, hide = true)]
    pub for_session: bool,
}

/// Serves until Ctrl-C, SIGTERM or `relay down`; says what it does on stderr, as much as `RUST_LOG` asks for.
///
/// # Errors
/// Exit code 2 when another relay serves the registry, 5 when the port or the registry can't be had, or a session may
/// not start it.
pub fn run(args: &ServeArgs, context: &Context) -> Result<Code, Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // They would be told on stderr, and a stderr on a full disk ends who writes to it.
        .log_internal_errors(false)
        .init();
    let (config, settings) = Config::read(&context.root)?;
    let engine = start::engine(args.engine, &config, &context.registry);
    let asker = if args.for_session { Asker::Session } else { context.asker() };
    consent::settle(asker, &Matter { root: &context.root, engine, settings: &settings })?;
    daemon::serve(&config, &context.root, &context.registry, engine).map(|()| Code::Done)
}
