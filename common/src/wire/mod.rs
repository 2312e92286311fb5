//! The protocol between agent and relay: version and limits.
//!
//! The agent dials out to `wss://HOST:PORT/agent`, checks the relay's certificate, and offers [`SUBPROTOCOL`]; every WebSocket message is binary and
//! holds exactly one frame.
//!
//! ```text
//! agent                                   relay
//!   │ Hello ─────────────────────────────►  │  within HELLO_TIMEOUT of the upgrade
//!   │ ◄───────────────────────────── Welcome│  or a close frame that says why not
//!   │ ◄─────────────────────────────── Start│
//!   │ Accepted │ Refused ────────────────►  │
//!   │ Events, Output ────────────────────►  │  in order per job and epoch, from durable + 1
//!   │ ◄──────────────────── Ack, OutputAck  │  cumulative, after the relay's fsync
//!   │ ◄────────────────────── Cancel, Extend│
//!   │ ◄──────── Ping, Pong ──────────────►  │  every PING_INTERVAL; silence of DEAD_AFTER ends the connection
//! ```
//!
//! * `agent`: what the agent says. * `relay`: what the relay says.
//! * `greeting`: the beginning of `Hello`, frozen for ever, so that any two versions can tell that they don't fit.
//! * `codec`: bytes ↔ frames; the only file that names the encoding.

mod agent;
mod codec;
mod greeting;
mod relay;

use std::time::Duration;

pub use agent::{AgentFrame, Hello, JobProgress, Platform};
pub use codec::{CodecError, decode, encode, encode_events, encode_onto};
pub use greeting::{Greeting, Range, greeting, hello, negotiate};
pub use relay::{Durable, Fate, RelayFrame};

/// Newest version of the protocol that this program speaks.
pub const PROTOCOL: u32 = 4;
/// Oldest version of the protocol that this program speaks.
pub const PROTOCOL_MIN: u32 = 4;
/// WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "worker-relay.v1";
/// Path of the agents' endpoint.
pub const AGENT_PATH: &str = "/agent";
/// Name in the relay's certificate. The certificate itself is pinned, so every relay has the same name.
pub const TLS_NAME: &str = "relay";

/// Longest message, in bytes. Both ends refuse longer ones before they buffer them.
pub const MAX_MESSAGE: usize = 1024 * 1024;
/// Most events in one frame: 256 of the usual size (≤ 300 bytes) fill a write buffer of 64 KiB.
pub const MAX_BATCH: usize = 256;
/// A batch is closed once its events reach this many bytes, which leaves room for the largest single event.
pub const BATCH_BYTES: usize = 256 * 1024;
/// Most runs that a `Hello` or `Welcome` names: in memory they take no more than the longest frame.
pub const MAX_RUNS: usize = 16 * 1024;
/// Most output in one frame, in bytes.
pub const OUTPUT_CHUNK: usize = 64 * 1024;

/// From the upgrade to `Hello`.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two pings.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Silence after which either end gives the connection up: two pings without an answer, and time to record the loss
/// within 15 s.
pub const DEAD_AFTER: Duration = Duration::from_secs(14);

/// Close code: the other end speaks no common version; the reason names both.
pub const CLOSE_VERSION: u16 = 4001;
/// Close code: the other end broke the protocol; the reason says how.
pub const CLOSE_PROTOCOL: u16 = 4002;
/// Close code: a newer connection of the same agent has taken over.
pub const CLOSE_REPLACED: u16 = 4003;

#[cfg(test)]
mod golden_tests;
