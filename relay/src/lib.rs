//! `relay`: launches workers without blocking, records their work and answers at once.
//!
//! ```text
//! cli ──launch, cancel──► registry (files) ◄──sole writer── daemon ◄──events── agent
//!  ▲                          │
//!  └──status, logs, wait──────┘   the command line and the daemon meet only there
//! ```

#![expect(
    unreachable_pub,
    reason = "only `main` is reachable from outside this library: `pub` means visible to other modules"
)]
#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests read and create files directly"))]

mod ancestry;
mod approval;
mod bounded_file;
mod cli;
mod config;
mod container_state;
mod daemon;
mod doctor;
mod engine;
mod engine_kind;
mod exit;
mod explain;
mod failure_text;
mod fd_limit;
mod files;
mod git;
mod hook;
mod inheritance;
mod init;
mod job_identity;
mod machine_text;
mod mcp;
mod min_free;
mod notice;
mod output;
mod pinned_versions;
mod plural;
mod policy;
mod project;
mod protected_paths;
mod receipt;
mod registry;
mod render;
mod sandbox;
mod schema;
mod start_daemon;
mod state_dir;
mod time;
mod times;
mod top;

/// Runs `relay`. Passes the daemon to the command line, because neither module imports the other.
pub fn main() -> std::process::ExitCode {
    cli::main(daemon::serve)
}

#[cfg(test)]
mod golden_tests;

/// Interface for the simulation and the fuzz targets. The programs of the product don't use it.
#[cfg(feature = "internals")]
pub mod internals;
