//! Interface to Codex: discovery, command line, and parsers of its output.
//!
//! * [`discovery`]: finds Codex, its version and its problems.
//! * [`command`]: builds the command line.
//! * [`lines`]: splits bytes into bounded lines.
//! * [`event`]: parses a line into an event.
//! * [`truncated`]: recovers fields from an over-long line.
//! * [`error_messages`]: explains errors of the model server, and of a thread that can't be resumed.
//! * [`model_activity`]: detects activity of the model.
//! * [`mcp`]: tracks MCP servers that start, fail or are lost.
//! * [`refused_commands`]: reports commands of the model that Codex did not start.
//! * `test_support`: access to the parsers, for the fuzz target.
//!
//! All modules but [`discovery`] are pure.

pub(crate) mod command;
pub(crate) mod discovery;
pub(crate) mod error_messages;
pub(crate) mod event;
pub(crate) mod lines;
pub(crate) mod mcp;
pub(crate) mod model_activity;
pub(crate) mod refused_commands;
#[cfg(feature = "internals")]
pub(crate) mod test_support;
mod truncated;

/// Outcome of a turn that Codex reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// `turn.completed`.
    Completed,
    /// `turn.failed`, with the reason.
    Failed(String),
}
