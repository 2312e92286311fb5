//! Jobs: admission and execution.
//!
//! ```text
//!  accepted ──► Setup(0) ──► … ──► Worker ──► Check(0) ──► … ──► changes ──► cleanup ──► finished
//!                  │                  │           │
//!                  └── failed, past a deadline, cancelled: escalation ──► cleanup ──► finished
//! ```
//!
//! * [`jobs`]: admission of jobs, and the table of those that run.
//! * [`supervisor`]: executes one job; the only loop.
//! * [`running`]: its command while it runs.
//! * [`stage`]: its commands, in order.
//! * [`verdict`]: the meaning of a command's end (pure).
//! * [`worker`]: the differences between Codex and a shell.
//! * [`log`]: its output; [`log_copy`]: the workspace's copy of it.
//! * [`order`]: orders to a running job.
//! * [`secrets`]: its secret values; [`masked`]: its output without them.
//! * [`tail`]: the last lines of a command.
//! * [`recover()`]: jobs of an earlier agent process.

mod jobs;
mod log;
mod log_copy;
mod masked;
mod order;
mod recover;
mod running;
mod secrets;
mod stage;
mod supervisor;
mod tail;
mod verdict;
mod worker;

pub(crate) use jobs::{Jobs, Place};
pub(crate) use recover::{Obituary, recover};
