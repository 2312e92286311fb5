//! Connections to the relay: one at a time, for ever.
//!
//! ```text
//!                Configured                Connected             Welcome
//!  Unconfigured ───────────► Connecting ─────────────► Handshake ────────────► Serving
//!                             ▲   ▲  │                    │                       │
//!                             │   │  │ Failed             │ Failed, Silent,       │ Failed, Silent,
//!         Timer or Configured │   │  │                    │ Protocol              │ Protocol, Reconfigured
//!                             │   │  ▼                    ▼                       │
//!                             │   └─ Closing ◄────────────┴───────────────────────┘
//!                             │      │   └─ Closed, after Reconfigured: at once
//!                          Waiting ◄─┘ Closed, after anything else
//! ```
//!
//! * *Unconfigured* ends with the first configuration. The agent checks for one every 200 ms.
//! * *Connecting* lasts until there is a WebSocket. The first frame is `Hello`.
//! * *Handshake* ends with `Welcome`, which must be the first frame and arrive within 5 s.
//! * *Serving* ends with the connection, after 14 s without a message, with a frame that breaks the protocol, or with a
//!   configuration of another relay.
//! * *Closing* lasts until the driver has closed the connection and dropped the starts in progress.
//! * *Waiting* lasts for a random pause that grows until the next `Welcome`, or 60 s if the relay has another version.
//!   A new configuration ends the pause.
//!
//! A lost relay never affects a job: supervisors write into the spool, and the next connection sends from the first
//! event that the relay does not have.
//!
//! One state machine decides everything. It takes inputs and the time, and returns actions. The agent's event loop
//! drives the state machine over a socket; the simulation drives it over a simulated network.
//!
//! * [`link`]: the state machine (pure). [`action`]: the actions that the state machine requests.
//! * [`connection_state`]: state of an open connection: frames to send, and the handling of received frames (pure).
//! * [`send_window`]: the send window of one run (pure).
//! * [`spool_access`]: reads and changes of the spool, without a runtime.
//! * [`event_loop`]: the driver: waits for inputs, and executes actions.
//! * [`connect`]: TCP, TLS and the WebSocket upgrade.
//! * [`connection`]: frames from and to the WebSocket.
//! * [`streams`]: bytes of git, sent after everything else.

pub(crate) mod action;
mod connect;
mod connection;
mod connection_state;
mod event_loop;
pub(crate) mod link;
mod send_window;
pub(crate) mod spool_access;
mod streams;

pub(crate) use event_loop::Uplink;

/// Reason why a connection ended or could not be established.
#[cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation uses the error, too")
)]
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
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
