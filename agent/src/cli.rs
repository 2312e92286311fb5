//! Command line of `worker-agent`.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{self, Config, ConfigFile, MAX_CONFIG};
use crate::config_source::ConfigSource;
use crate::output::collector;
use crate::{exit, lifecycle, shim, state_dir};

/// Runs workers, supervises them, and reports their events to a relay.
#[derive(Debug, Parser)]
#[command(name = "worker-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until it is stopped
    Run {
        /// State folder of the agent; created if missing
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Read the configuration from stdin (JSON) and keep it in memory only
        #[arg(long)]
        config_stdin: bool,
    },
    /// Read the configuration from stdin (JSON); a running agent applies it
    Configure {
        /// State folder of the agent; created if missing
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Run one command for the agent
    #[command(hide = true)]
    Shim {
        /// Run inside a sandbox: the command writes to descriptors that arrive over stdin
        #[arg(long)]
        inside: bool,
    },
    /// Write the files of the current folder to stdout, as an archive
    #[command(hide = true)]
    CollectOutput,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    if matches!(command, Command::Shim { inside: false }) {
        shim::raise_oom_score();
    }
    // The memory of this process contains the token and the workers' environments. Without this call, processes of the
    // same user, which may include workers, could read that memory.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    match command {
        Command::Run { state, config_stdin } => run(&state, config_stdin),
        Command::Configure { state } => configure(&state),
        Command::Shim { inside } => match shim::run::run(inside) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => exit::print_error(exit::FAILED, &format!("shim: {error}")),
        },
        Command::CollectOutput => match collector::run() {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => exit::print_error(exit::FAILED, &error),
        },
    }
}

fn run(dir: &std::path::Path, config_stdin: bool) -> ExitCode {
    crate::inherited_state::reset();
    let log_levels = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let log = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        // tracing would print internal errors to stderr. If stderr is on a full disk, that write would end the process.
        .log_internal_errors(false)
        .compact();
    let levels = log_levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(levels).with(log).init();
    let source = match config_stdin.then(read_config) {
        None => ConfigSource::File(ConfigFile::new(dir)),
        Some(Ok(config)) => ConfigSource::in_memory(config, dir),
        Some(Err(line)) => return exit::print_error(exit::USAGE, &line),
    };
    let state = match state_dir::lock_state_dir(dir) {
        Ok(state) => state,
        Err(line) => return exit::print_error(exit::FAILED, &line),
    };
    // One thread is enough, because all long-running work is in separate processes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(lifecycle::run(&state, source))) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => exit::print_error(exit::FAILED, &format!("the agent can't run: {error}")),
    }
}

fn configure(dir: &std::path::Path) -> ExitCode {
    let config = match read_config() {
        Ok(config) => config,
        Err(line) => return exit::print_error(exit::USAGE, &line),
    };
    if let Err(line) = state_dir::create_state_dir(dir) {
        return exit::print_error(exit::FAILED, &line);
    }
    match config::write(dir, &config) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => exit::print_error(
            exit::FAILED,
            &format!("the configuration can't be written to {}: {error}", dir.display()),
        ),
    }
}

/// Reads the configuration from stdin, up to the end of input.
fn read_config() -> Result<Config, String> {
    let mut json = Vec::new();
    let read = io::stdin().take(MAX_CONFIG + 1).read_to_end(&mut json);
    read.map_err(|error| format!("the configuration can't be read: {error}"))?;
    if json.len() as u64 > MAX_CONFIG {
        return Err(format!("the configuration is longer than {MAX_CONFIG} bytes"));
    }
    Config::parse(&json)
}
