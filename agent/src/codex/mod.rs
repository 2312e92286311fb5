//! Codex: finding it, calling it, and reading what it prints.
//!
//! * [`install`]: where it is, its version, what it lacks. * [`command`]: its command line.
//! * [`lines`]: bytes into bounded lines. * [`event`]: a line into an event. * [`cut`]: what an over-long line still
//!   tells.
//! * [`trouble`]: what it says about its model server, for people. * [`thread`]: why it can't go on with a
//!   thread. * [`pulse`]: whether the model is alive. * [`mcp`]: which of its MCP servers come up.
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

/// What Codex said of its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// `turn.completed`.
    Completed,
    /// `turn.failed`, and why.
    Failed(String),
}
