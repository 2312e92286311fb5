//! `worker-agent`: runs workers, supervises them, and delivers their events to a relay.
//!
//! ```text
//! relay ──Start──► uplink ──► job (one supervisor each) ──► process ──► shim ──► the command and all it starts
//!                    ▲            │ steps, limits                │ output, exit
//!                    │            ▼                              ▼
//!                    └──────── spool (disk) ◄──────────── transcript, tracker
//! ```

mod backoff;
mod cli;
mod codex;
mod config;
mod config_source;
mod confine;
mod deadline;
mod environment;
mod exit;
mod expectations;
mod gateway;
mod git_diff;
mod git_head;
mod git_stream;
mod inherited_state;
mod job;
mod lifecycle;
mod mask;
mod observe;
mod oom;
mod output;
mod place;
mod proc_stat;
mod process;
mod relay_time;
mod sandbox_check;
mod sandbox_profile;
mod shim;
mod spool;
mod state_dir;
mod steps;
mod transcript;
mod uplink;
mod user;
mod vitals;
mod workspace;
mod workspace_log;

pub use cli::main;

/// Interface for the simulation and the fuzz targets. The programs of the product don't use it.
#[cfg(feature = "internals")]
pub mod internals;
