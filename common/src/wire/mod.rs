//! The wire: the protocol between agent and relay. This file has the protocol's versions and limits.
//!
//! The agent connects to `wss://HOST:PORT/agent`, checks the relay's certificate, and offers [`SUBPROTOCOL`]. Every
//! WebSocket message is binary and contains exactly one frame.
//!
//! ```text
//! agent                                   relay
//!   │ Hello ─────────────────────────────►  │  within HELLO_TIMEOUT of the upgrade
//!   │ ◄───────────────────────────── Welcome│  or a close frame with the reason
//!   │ ◄─────────────────────────────── Start│  or StartWithModel, from MODEL_PROTOCOL on
//!   │ Accepted │ Refused ────────────────►  │
//!   │ Events, Output ────────────────────►  │  in order per job and epoch, without those named in Welcome
//!   │ ◄──────────────────── Ack, OutputAck  │  cumulative, after the relay's fsync
//!   │ ◄────────────────────── Cancel, Extend│
//!   │ ◄──────────────────────────── Continue│  ends the hold of a job, from HOLD_PROTOCOL on
//!   │ ◄──────── Ping, Pong ──────────────►  │  every PING_INTERVAL; silence of DEAD_AFTER ends the connection
//!   │ Vitals ────────────────────────────►  │  every few seconds, from VITALS_PROTOCOL on
//!   │ StreamOpen ────────────────────────►  │  from STREAM_PROTOCOL on; see crate::stream
//!   │ ◄───────── Stream ─────────────────►  │  after everything else that is to be sent
//! ```
//!
//! * `agent`: frames sent by the agent. * `relay`: frames sent by the relay.
//! * `hello_prefix`: the beginning of `Hello`, which never changes, so that any two versions can detect that they are
//!   incompatible.
//! * `downgrade`: events for a relay of an older protocol version.
//! * `codec`: encoding of frames; the only file that names the encoding.

mod agent;
mod codec;
mod downgrade;
mod hello_prefix;
mod relay;

use std::time::Duration;

pub use agent::{AgentFrame, Hello, JobProgress, Platform};
pub use codec::{CodecError, decode, encode, encode_append, encode_events};
pub use downgrade::without_vitals;
pub use hello_prefix::{
    HelloPrefix, VersionRange, decode_hello, decode_hello_prefix, encode_hello, negotiate,
};
pub use relay::{Durable, ModelGrant, ModelToken, RelayFrame, RetrySettings, TerminationCause};

/// Newest protocol version that this program supports.
pub const PROTOCOL: u32 = 8;
/// Oldest protocol version that this program supports.
pub const PROTOCOL_MIN: u32 = 4;
/// First protocol version with the vitals of the agent's machine: in `Hello`, in a frame and in an event.
pub const VITALS_PROTOCOL: u32 = 5;
/// First protocol version with streams. A job with a clone of its own needs them.
pub const STREAM_PROTOCOL: u32 = 6;
/// First protocol version with streams to the model, for jobs that reach it through the relay.
pub const MODEL_PROTOCOL: u32 = 7;
/// First protocol version with holds: an event, and a frame that ends one. Only a relay of this version lets a job wait.
pub const HOLD_PROTOCOL: u32 = 8;
/// Name of the WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "worker-relay.v1";
/// Path of the relay's HTTP endpoint for agents.
pub const AGENT_PATH: &str = "/agent";
/// Server name in the certificate of every relay. The agent pins the certificate itself, so the name can be a constant.
pub const TLS_NAME: &str = "relay";

/// Maximum length of a message, in bytes. Both ends refuse longer messages before they buffer them.
pub const MAX_MESSAGE: usize = 1024 * 1024;
/// Maximum number of events in one frame: 256 of the usual size (≤ 300 bytes) fill a write buffer of 64 KiB.
pub const MAX_BATCH: usize = 256;
/// Size at which no more events are added to a batch, in bytes. It leaves space for the largest single event.
pub const BATCH_BYTES: usize = 256 * 1024;
/// Maximum number of runs in a `Hello` or `Welcome`, so that these take no more memory than the longest frame.
pub const MAX_RUNS: usize = 16 * 1024;
/// Maximum length of the output in one frame, in bytes.
pub const OUTPUT_CHUNK: usize = 64 * 1024;

/// Maximum time from the WebSocket upgrade to `Hello`.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two pings.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Time without a frame after which either end closes the connection. Two pings may stay unanswered, and the loss is
/// recorded within 15 s.
pub const DEAD_AFTER: Duration = Duration::from_secs(14);

/// Close code: there is no common protocol version; the reason names the versions of both ends.
pub const CLOSE_VERSION: u16 = 4001;
/// Close code: the other end violated the protocol; the reason gives details.
pub const CLOSE_PROTOCOL: u16 = 4002;
/// Close code: a newer connection of the same agent has replaced this one.
pub const CLOSE_REPLACED: u16 = 4003;

#[cfg(test)]
mod golden_tests;
