//! The agent's side of the gateway to the model: a job's Codex, or a shell job, speaks HTTP to a port on loopback, with
//! a token of the job in place of the model's key. The relay puts in the key, which never reaches this machine or
//! container.
//!
//! ```text
//! codex ──HTTP, token──► 127.0.0.1:PORT ── model_listener ──► a stream for each connection ──► relay ──key──► model
//! ```
//!
//! * [`model_listener`]: the port of one run for the model. [`loopback_port`]: a port, for the model or for
//!   the proxy.
//! * [`settings`]: the job's arguments and variables (pure).
//!
//! A job without a network of its own reaches other hosts in the same way, through the relay's proxy:
//!
//! * [`proxy_listener`]: the port of the proxy of one run. [`proxy_settings`]: variables that name the port (pure).

pub(crate) mod loopback_port;
pub(crate) mod model_listener;
pub(crate) mod proxy_listener;
pub(crate) mod proxy_settings;
pub(crate) mod settings;
