//! `relay`: launches workers without blocking, records their work and answers at once.
//!
//! ```text
//! cli ──launch, cancel──► registry (files) ◄──sole writer── daemon ◄──events── agent
//!  ▲                          │
//!  └──status, logs, wait──────┘   the command line and the daemon meet only there
//! ```
//!
//! * `cli`: the command line, one file per command. `daemon`: the process that records events, schedules jobs and
//!   keeps the platform up; `start_daemon`: its start in the background.
//! * `registry`: the files in `platform/workers/`. `state_dir`: the state folder, which no session can write;
//!   `job_identity`: names of a job's data in it; `job_box`: the container of a single job. `files`, `bounded_file`:
//!   reading what others may have written.
//! * `config`, `project`: `relay.toml`, and where it is. `approval`, `policy`: settings that a person has
//!   approved, and jobs that agree with them; `protected_paths`: folders where no worker may work.
//! * `engine`, `engine_kind`, `container_state`: Docker, podman or this machine. `pinned_versions`: versions of
//!   programs in the image. `min_free`, `machine_text`: memory and disk space that must stay free, and their texts.
//! * `model_server`: server and key of the user's own Codex, for the gateway to the model. `host_secret`: a secret that
//!   relay adds to requests for one host. `secret`: a value that is never shown.
//! * `git`: the repositories of users and jobs. `output`, `receipt`: files and statements that a job leaves.
//! * `init`, `doctor`, `explain`, `top`: what these commands do. `hook`, `mcp`: interfaces for host agents;
//!   `notice`: the text of a completion notice; `ancestry`: which host agent called.
//! * `render`: output; `failure_text`, `plural`, `time`, `times`: texts, the clock, and times for display.
//!   `exit`, `schema`: exit codes and JSON schemas.
//! * `inheritance`, `fd_limit`, `sandbox`: what this process inherits, and what confines it.

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
mod host_secret;
mod inheritance;
mod init;
mod job_box;
mod job_identity;
mod machine_text;
mod mcp;
mod min_free;
mod model_server;
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
mod secret;
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
