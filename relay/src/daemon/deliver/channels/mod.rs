//! The channels of a notification, each in a file of its own.
//!
//! * [`codex`]: a message to the session that launched the job. [`desktop`]: a notification on the desktop.
//! * [`command`]: the user's program. [`webhook`]: a POST to an address; [`signature`]: the signature of the POST.
//! * [`attempt`]: one attempt through one channel. [`shared`]: what all channels need. [`program`]: runs a process
//!   within a time limit.

mod attempt;
mod codex;
mod command;
mod desktop;
mod program;
mod shared;
mod signature;
mod webhook;

pub(super) use attempt::attempt_delivery;
pub(super) use shared::Channels;
