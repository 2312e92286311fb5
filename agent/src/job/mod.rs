//! Jobs: which run, and how one is carried out.
//!
//! ```text
//!  accepted ──► Setup(0) ──► … ──► Worker ──► Check(0) ──► … ──► changes ──► cleanup ──► finished
//!                  │                  │           │
//!                  └── fails, over a limit, cancelled: stopping, the ladder ──► cleanup ──► finished
//! ```
//!
//! * [`jobs`]: takes jobs or refuses them, and knows which run. * [`supervisor`]: carries one out; the only loop.
//!   [`running`]: its command while it runs.
//! * [`stage`]: its commands, in order. * [`verdict`]: what the end of a command means (pure). * [`worker`]: what
//!   differs between Codex and a shell. * [`log`]: where its output goes; [`log_copy`]: the workspace's copy.
//! * [`order`]: what a job can be told. * [`secrets`]: what of a job is secret. [`masked`]: its output without that.
//! * [`tail`]: the last lines of a command. * [`recover()`]: jobs that an earlier agent left.

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
