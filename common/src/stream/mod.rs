//! Streams: transfers of git's data, of archives and of connections to the model and to other hosts beside the events,
//! on the connection of an agent.
//!
//! ```text
//!  agent                                        relay
//!    │ StreamOpen (job, service) ──────────────►  │  starts the service for the job, or refuses with Close
//!    │ ◄──────────────── Data, Window, Close ──►  │  each direction: at most STREAM_WINDOW bytes ahead of a Window
//! ```
//!
//! A `Close` without an error ends one direction. A `Close` with an error ends both directions, and so does the end of
//! the connection. Parts for an ended stream are ignored: the other end sent them before it received the `Close`.
//!
//! * `part`: the parts of a stream on the wire. * `flow`: flow control of one stream (pure).
//! * `transfer`: moves bytes between a stream and a generic reader and writer.

mod flow;
mod part;
mod transfer;

pub use flow::{StreamError, StreamViolation};
pub use part::{
    MAX_MODEL_STREAMS, MAX_NETWORK_STREAMS, STREAM_CHUNK, STREAM_WINDOW, StreamPart, StreamService,
};
pub use transfer::{OutgoingParts, StreamEnd, StreamHandle};
