//! Steps of a job, each with a kind, a number, a deadline and its processes.
//!
//! ```text
//!  Codex's events ──► tracker ─────────┐                               ┌──► events (began, ended, stalled, interrupted)
//!                                      ├──► step table (active steps) ─┤
//!  the process tree ──► process steps ─┘      ▲                        └──► timeouts (fail, interrupt)
//!                                             └── deadlines
//! ```
//!
//! * [`rules`]: classification of command lines and processes.
//! * [`step_table`]: the steps of the job and their deadlines; [`active_step`]: one of these steps.
//! * [`tracker`]: steps derived from Codex's events; [`warning_dedup`]: deduplication of Codex's warnings.
//! * [`loop_detector`]: detection of workers that repeat failing commands.
//! * [`process_steps`]: steps derived from processes; [`resource_usage`]: resource usage of processes.
//! * [`stall`]: progress detection; [`diagnosis`]: description of what the processes were doing.
//! * [`timeout_error`]: reason why a step timed out; [`timeout_cause`]: derives that reason from the step.
//!
//! All modules are pure.

mod active_step;
mod diagnosis;
mod loop_detector;
mod process_steps;
mod resource_usage;
pub(crate) mod rules;
mod stall;
pub(crate) mod step_table;
mod timeout_cause;
mod timeout_error;
pub(crate) mod tracker;
mod warning_dedup;
