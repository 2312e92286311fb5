//! The agent's end of the way to the model: a job's Codex, or a command line, speaks HTTP to a port on loopback, with a token of the job in
//! place of the model's key. The relay puts in the key, which never reaches this machine or container.
//!
//! ```text
//! codex ──HTTP, token──► 127.0.0.1:PORT ── listener ──► a stream for each connection ──► relay ──key──► model
//! ```
//!
//! * [`listener`]: the port of one run, and the connections to it.
//! * [`settings`]: the job's arguments and variables (pure).

pub(crate) mod listener;
pub(crate) mod settings;
