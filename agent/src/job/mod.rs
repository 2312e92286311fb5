//! Jobs: admission and execution.
//!
//! ```text
//!  accepted ──► Clone ──► Setup(0) ──► … ──► Worker ──► Check(0) ──► … ──► git diff ──► cleanup ──► finished
//!                  │                  │           │
//!                  └── failed, deadline passed, or cancelled: escalation ──► cleanup ──► finished
//! ```
//!
//! * [`manager`]: admission of jobs, and the table of running jobs; [`preparation`]: everything that a job needs to
//!   run.
//! * [`supervisor`]: executes one job, command by command. [`ending`]: ends a job early, because of a deadline, a stall
//!   or a request.
//! * [`own_place`]: the job's own clone, which is made before its commands, and whose commits are pushed after them;
//!   [`leftover_place`]: the clone of a run whose agent was killed. [`changes`]: what the job changed.
//! * [`hold`]: jobs that wait for the end of a usage limit.
//! * [`expectation`]: checks of the job's expectations. [`evidence`]: the evidence for the job's receipt;
//!   [`check_output_digest`]: the hash of a check's output, a part of it.
//! * [`images`]: fetches the images of the job's prompt. [`output`]: the push of the job's output; [`leftover_output`]:
//!   the output of a run whose agent was killed.
//! * [`running_command`]: the current command.
//! * [`stage`]: the commands of a job, in order.
//! * [`outcome`]: the outcome of a command (pure).
//! * [`output_handler`]: handling of a command's output, which differs between Codex and a shell.
//! * [`log`]: the output of a job; [`log_copy`]: the workspace's copy of it.
//! * [`control`]: requests to a running job.
//! * [`secrets`]: the secret values of a job; [`masked_output`]: output without them.
//! * [`tail`]: the last lines of a command.
//! * [`recover()`]: ends the jobs of an earlier agent process.

mod changes;
mod check_output_digest;
mod control;
mod ending;
mod evidence;
mod expectation;
mod hold;
mod images;
mod leftover_output;
mod leftover_place;
mod log;
mod log_copy;
mod manager;
mod masked_output;
mod outcome;
mod output;
mod output_handler;
mod own_place;
mod preparation;
mod recover;
mod running_command;
mod secrets;
mod stage;
mod supervisor;
mod tail;

pub(crate) use manager::{AgentContext, JobManager};
pub(crate) use recover::{RecoveryNotice, recover};
