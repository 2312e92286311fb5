//! How an end is handed over, each way in a file of its own.
//!
//! * [`codex`]: a message to the session that launched the job. * [`desktop`]: a notification.
//! * [`command`]: the user's program. * [`webhook`]: a POST; [`signature`]: what it is signed with.
//! * [`carry`]: one try of one way. * [`program`]: a process that has to end in time.

mod carry;
mod codex;
mod command;
mod desktop;
mod program;
mod signature;
mod webhook;

pub(super) use carry::{Ways, carry_out};
pub(super) use codex::QUEUED;
