//! Streams: bytes of git beside the events, on the connection of an agent.
//!
//! ```text
//!  agent                                        relay
//!    │ StreamOpen (job, service) ──────────────►  │  starts git on the job's repository, or refuses with Close
//!    │ ◄──────────────── Data, Window, Close ──►  │  each direction: at most WINDOW bytes without a Window
//! ```
//!
//! A direction ends with a `Close` without an error. A `Close` with an error ends both directions, and so does the end
//! of the connection. Parts for a stream that has ended are ignored: the other end sent them before it
//! received the end.
//!
//! * `part`: the parts on the wire. * `flow`: the received bytes and the credit of one stream (pure).
//! * `transfer`: moves bytes between a stream and a generic reader and writer.

mod flow;
mod part;
mod transfer;

pub use flow::{StreamError, StreamViolation};
pub use part::{GitService, STREAM_CHUNK, STREAM_WINDOW, StreamPart};
pub use transfer::{OutgoingParts, StreamEnd, StreamHandle};
