//! Serves a connection of a job's processes to the relay's proxy.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use common::stream::{STREAM_CHUNK, StreamError, StreamHandle};
use tokio::io::{duplex, split};

use super::idle::wait_until_idle;
use crate::daemon::network::{self, JobNetwork};

/// Maximum time without a byte in either direction: more than servers and tools keep an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// The same once the job sends no more: it has closed the connection, or waits for the rest of an answer.
const HALF_CLOSED_IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Connects a stream with the proxy until both directions have ended, or nothing is transferred. The end of either
/// direction is passed on: it is part of what a tunnel carries.
pub(super) async fn serve_connection(handle: &StreamHandle, network: Arc<JobNetwork>) {
    let (proxy_end, stream_end) = duplex(STREAM_CHUNK);
    let (reader, writer) = split(stream_end);
    let receiving = async {
        match handle.receive_into(writer).await {
            Ok(()) => wait_until_idle(handle, HALF_CLOSED_IDLE_LIMIT).await,
            // The proxy reads no more. An answer may still be on its way.
            Err(StreamError::Local(_)) => pending().await,
            Err(StreamError::Lost | StreamError::Refused(_)) => {}
        }
    };
    let serving = async {
        let ((), sent) = tokio::join!(
            network::serve_connection(proxy_end, Arc::clone(&network)),
            handle.send_from(reader)
        );
        if let Err(error) = sent {
            tracing::debug!("a connection to another host ended early: {error}");
        }
    };
    tokio::select! {
        () = receiving => {}
        () = serving => {}
        () = wait_until_idle(handle, IDLE_LIMIT) => {}
    }
    network.add_connection(handle.transferred());
}
