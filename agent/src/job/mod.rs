//! Jobs: admission and execution.
//!
//! ```text
//!  accepted ──► Setup(0) ──► … ──► Worker ──► Check(0) ──► … ──► changes ──► cleanup ──► finished
//!                  │                  │           │
//!                  └── failed, past a deadline, cancelled: escalation ──► cleanup ──► finished
//! ```
//!
//! * [`manager`]: admission of jobs, and the table of those that run.
//! * [`supervisor`]: executes one job; the only loop.
//! * [`running_command`]: its command while it runs.
//! * [`stage`]: its commands, in order.
//! * [`outcome`]: the meaning of a command's end (pure).
//! * [`output_handler`]: the differences between Codex and a shell.
//! * [`log`]: its output; [`log_copy`]: the workspace's copy of it.
//! * [`control`]: orders to a running job.
//! * [`secrets`]: its secret values; [`masked_output`]: its output without them.
//! * [`tail`]: the last lines of a command.
//! * [`recover()`]: jobs of an earlier agent process.

mod control;
mod log;
mod log_copy;
mod manager;
mod masked_output;
mod outcome;
mod output_handler;
mod recover;
mod running_command;
mod secrets;
mod stage;
mod supervisor;
mod tail;

pub(crate) use manager::{Jobs, Place};
pub(crate) use recover::{Obituary, recover};
