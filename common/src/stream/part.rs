//! Parts of a stream on the wire, and their limits.

use serde::{Deserialize, Serialize};

/// Maximum number of bytes in one part. An event waits for at most one part that is being written.
pub const STREAM_CHUNK: usize = 64 * 1024;
/// Maximum number of bytes that are sent and not consumed in one direction of a stream: enough for 80 MB/s at a delay
/// of 3 ms. On a slow connection, an event waits at most until this many bytes are sent.
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// Maximum number of connections to the model of one agent at once: five for each of its jobs. Further ones wait.
pub const MAX_MODEL_STREAMS: usize = 256;

/// Maximum number of connections to other hosts of one agent at once. Package managers open up to 50. Further ones wait.
pub const MAX_NETWORK_STREAMS: usize = 64;

/// Service that the relay runs for a job at the other end of a stream, mostly a program of git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamService {
    /// Sends the commit that the job starts from to the agent: `git upload-pack`.
    FetchPlace,
    /// Receives the result of the job from the agent: `git receive-pack`.
    PushResult,
    /// Receives the job's output from the agent: an archive (tar), without git.
    PushOutput,
    /// Sends the job's images to the agent: an archive (tar), without git.
    FetchImages,
    /// Serves HTTP requests of the job's worker to the model, without git. Exists from protocol
    /// [`MODEL_PROTOCOL`](crate::wire::MODEL_PROTOCOL) on.
    Model,
    /// Serves a connection of the job's processes to the relay's proxy, their way to other hosts, without git. Exists
    /// from protocol [`MODEL_PROTOCOL`](crate::wire::MODEL_PROTOCOL) on.
    Network,
}

/// Part of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamPart {
    /// Bytes, at most [`STREAM_CHUNK`].
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Number of bytes that were consumed and may be sent in addition.
    Window(u32),
    /// End of the sender's direction, or of the whole stream if there is an error.
    Close(Option<String>),
}
