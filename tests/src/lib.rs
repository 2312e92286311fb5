//! Shared parts of the end-to-end tests: replacements for external systems that use the real protocols.
//!
//! * [`harness`]: a separate project for each test, with the real programs in it.
//! * [`simulated_agent`]: an agent without workers: its side of the wire, over real sockets.
//! * [`scripted_model`]: a scripted model server for the real Codex. [`scripted_messages`]: one for Claude Code.

#![expect(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "every error fails the calling test with a message"
)]

pub mod harness;
pub mod scripted_messages;
pub mod scripted_model;
pub mod simulated_agent;
