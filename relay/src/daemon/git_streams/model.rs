//! Serves a connection of a job's worker to the model.

use std::future::pending;
use std::sync::Arc;

use common::stream::{STREAM_CHUNK, StreamError, StreamHandle};
use tokio::io::{duplex, split};

use crate::daemon::gateway::{self, JobRoute};

/// Connects a stream with the gateway until either has ended. The end of the worker's direction ends the request that is
/// open: Codex closes a connection only when it wants no answer. A connection that breaks is no failure: a worker ends
/// its requests like this, and repeats those that fail.
pub(super) async fn serve_connection(handle: &StreamHandle, route: Arc<JobRoute>) {
    let (gateway_end, stream_end) = duplex(STREAM_CHUNK);
    let (reader, writer) = split(stream_end);
    let receiving = async {
        match handle.receive_into(writer).await {
            // The gateway reads no more. An answer may still be on its way.
            Err(StreamError::Local(_)) => pending().await,
            Ok(()) | Err(StreamError::Lost | StreamError::Refused(_)) => {}
        }
    };
    let serving = async {
        let ((), sent) =
            tokio::join!(gateway::serve_connection(gateway_end, route), handle.send_from(reader));
        if let Err(error) = sent {
            tracing::debug!("a connection to the model ended early: {error}");
        }
    };
    // Dropping the gateway's side ends its request to the model.
    tokio::select! {
        () = receiving => {}
        () = serving => {}
    }
}
