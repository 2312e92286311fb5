//! `worker-agent`: runs workers, supervises them, and delivers their events to a relay.
//!
//! ```text
//! relay ──Start──► uplink ──► job (one supervisor each) ──► process ──► shim ──► the command and all it starts
//!                    ▲            │ steps, limits                │ output, exit
//!                    │            ▼                              ▼
//!                    └──────── spool (disk) ◄──────────── transcript, tracker
//! ```
//!
//! * `cli`, `lifecycle`, `exit`: the command line, start and stop. `config`, `config_source`: the settings;
//!   `state_dir`: the agent's folder; `inherited_state`: signals and descriptors of the parent process.
//! * `job`: admission and execution of jobs. `codex`: Codex's command line and output; `steps`: the steps of a job
//!   and their limits; `deadline`: timers; `transcript`: the log; `mask`: secrets in it.
//! * `process`, `shim`: a running command. `observe`, `proc_stat`, `vitals`: its processes, and the machine. `cgroup`,
//!   `oom`, `process_limit`, `disk_use`: the limits of its container. `environment`, `user`: what a worker runs with, and
//!   as whom.
//! * `confine`, `sandbox_profile`, `sandbox_check`: the sandbox around a job.
//! * `workspace`, `workspace_log`: the folder that a job works in, and the copy of its log there. `git_diff`,
//!   `git_head`, `expectations`: what a job changed.
//! * `place`: a job's own clone; `stream_request`: data of jobs from and to the relay. `output`: files that a job leaves.
//! * `spool`: events on disk, until the relay has them. `uplink`, `backoff`: the connection to the relay.
//!   `relay_time`: a clock that follows the relay's.

mod backoff;
mod cgroup;
mod cli;
mod codex;
mod config;
mod config_source;
mod confine;
mod deadline;
mod disk_use;
mod environment;
mod exit;
mod expectations;
mod gateway;
mod git_diff;
mod git_head;
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
mod process_limit;
mod relay_time;
mod sandbox_check;
mod sandbox_profile;
mod shim;
mod spool;
mod state_dir;
mod steps;
mod stream_request;
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
