//! The way to the relay: one connection at a time, for ever.
//!
//! ```text
//!           config           Hello                Welcome
//!  Waiting ───────► Dialing ───────► Greeting ──────────────► Serving
//!     ▲                │                │                        │ closed, silent for 14 s, reconfigured
//!     └── backoff ─────┴────────────────┴────────────────────────┘
//! ```
//!
//! Losing the relay never touches a job: supervisors write into the spool, and whatever connection comes next sends
//! from the first event that the relay does not have.
//!
//! * [`run`]: the endless loop. * [`dial`]: TCP, TLS and the WebSocket upgrade. * [`serve`]: one connection's loop.
//! * [`session`]: what to send and what an answer means. * [`flow`]: how far one run has got (pure).
//! * `side`: this side of the wire for the simulation.

mod dial;
mod flow;
mod run;
mod serve;
mod session;
#[cfg(feature = "internals")]
pub(crate) mod side;

pub(crate) use run::Uplink;

/// Why a connection ended or never began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No TCP connection.
    #[error("{address} can't be reached: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the network says.
        reason: String,
    },
    /// Something answers that is no relay.
    #[error("no relay answers there: {0}")]
    Handshake(String),
    /// The relay does not let us in.
    #[error("the relay refused the connection with status {0}: does the token belong to this relay?")]
    Refused(u16),
    /// The relay closed the connection.
    #[error("the relay closed the connection: {0}")]
    Closed(String),
    /// The relay is of another version; the reason names both.
    #[error("the relay refused this agent's version: {0}")]
    Version(String),
    /// Nothing came, or nothing could be sent, for too long.
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
