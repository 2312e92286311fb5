//! Jobs: admission and execution.
//!
//! ```text
//!  accepted ──► Clone ──► Setup(0) ──► … ──► Worker ──► Check(0) ──► … ──► git diff ──► cleanup ──► finished
//!                  │                  │           │
//!                  └── failed, past a deadline, cancelled: escalation ──► cleanup ──► finished
//! ```
//!
//! * [`manager`]: admission of jobs, and the table of running jobs; [`preparation`]: everything that a job needs to
//!   run.
//! * [`supervisor`]: executes one job; the only loop. [`ending`]: ends a job early, because of a deadline, a stall or
//!   a request.
//! * [`changes`]: what the job changed. * [`own_place`]: the job's own clone, which is made before its commands, and
//!   whose commits are pushed after them; [`leftover_place`]: the same for a run whose agent was killed.
//! * [`expectation`]: what the job has to leave behind. * [`evidence`]: the agent's part of the receipt.
//! * [`images`]: the images of the job. * [`output`]: push of the job's output.
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
mod control;
mod ending;
mod evidence;
mod expectation;
mod images;
mod leftover_place;
mod log;
mod log_copy;
mod manager;
mod masked_output;
mod outcome;
mod output;
mod output_digest;
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
