//! The channels of a notification, each in a file of its own.
//!
//! * [`codex`]: a message to the session that launched the job. [`desktop`]: a notification on the desktop.
//! * [`command`]: the user's program. [`webhook`]: a POST to an address; [`signature`]: the signature of the POST.
//! * [`attempt`]: one attempt through one channel. [`program`]: runs a process within a time limit.

mod attempt;
mod codex;
mod command;
mod desktop;
mod program;
mod signature;
mod webhook;

pub(super) use attempt::{Channels, attempt_delivery};
pub(super) use codex::MESSAGE_CLAIMANT;
