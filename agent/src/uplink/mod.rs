//! Connection to the relay: one at a time, for ever.
//!
//! ```text
//!           config           Hello                Welcome
//!  Waiting ───────► Dialing ───────► Greeting ──────────────► Serving
//!     ▲                │                │                        │ closed, silent for 14 s, reconfigured
//!     └── backoff ─────┴────────────────┴────────────────────────┘
//! ```
//!
//! A lost relay never affects a job: supervisors write into the spool, and the next connection sends from the first
//! event that the relay does not have.
//!
//! * [`reconnect`]: the endless loop.
//! * [`connect`]: TCP, TLS and the WebSocket upgrade.
//! * [`connection`]: one connection's loop.
//! * [`session`]: frames to send, and the handling of received ones.
//! * [`send_window`]: the send window of one run (pure).
//! * `sim`: the agent's side of the wire for the simulation.

mod connect;
mod connection;
mod reconnect;
mod send_window;
mod session;
#[cfg(feature = "internals")]
pub(crate) mod sim;

pub(crate) use reconnect::Uplink;

/// Reason that a connection ended or could not be established.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No TCP connection.
    #[error("{address} can't be reached: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Error of the network.
        reason: String,
    },
    /// The peer that answers is not a relay.
    #[error("no relay answers there: {0}")]
    Handshake(String),
    /// The relay refused the connection.
    #[error("the relay refused the connection with status {0}: does the token belong to this relay?")]
    Refused(u16),
    /// The relay closed the connection.
    #[error("the relay closed the connection: {0}")]
    Closed(String),
    /// The relay has another version; the reason names both.
    #[error("the relay refused this agent's version: {0}")]
    Version(String),
    /// Nothing was received, or nothing could be sent, for too long.
    #[error("the relay was silent for too long")]
    Silent,
    /// The relay broke the protocol.
    #[error("the relay broke the protocol: {0}")]
    Protocol(String),
    /// The spool can't be read.
    #[error("the spool can't be read: {0}")]
    Spool(#[from] std::io::Error),
    /// Address, certificate or token have changed.
    #[error("the configuration has changed")]
    Reconfigured,
}
