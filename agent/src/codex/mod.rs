//! Codex: discovery, command line, and output.
//!
//! * [`install`]: path, version and problems of Codex.
//! * [`command`]: the command line.
//! * [`lines`]: bytes into bounded lines.
//! * [`event`]: a line into an event.
//! * [`cut`]: the recoverable fields of an over-long line.
//! * [`trouble`]: errors of the model server, for display.
//! * [`thread`]: the reason why a thread can't be resumed.
//! * [`pulse`]: activity of the model.
//! * [`mcp`]: MCP servers that start, fail or are lost.
//!
//! All but the first are pure.

pub(crate) mod command;
mod cut;
pub(crate) mod event;
pub(crate) mod install;
pub(crate) mod lines;
pub(crate) mod mcp;
pub(crate) mod pulse;
pub(crate) mod thread;
pub(crate) mod trouble;

/// Outcome of a turn, as Codex reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// `turn.completed`.
    Completed,
    /// `turn.failed`, with the reason.
    Failed(String),
}
