//! Serves a connection of a job's worker to the model.

use std::future::pending;
use std::sync::Arc;

use common::stream::{STREAM_CHUNK, StreamError, StreamHandle};
use tokio::io::{duplex, split};

use crate::daemon::gateway::{self, JobRoute};

/// Connects a stream with the gateway until either has ended. The end of the worker's direction ends the open request:
/// Codex closes a connection only when it wants no answer. A connection that breaks is no failure: a worker ends its
/// requests like this, and repeats those that fail.
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

#[cfg(test)]
mod tests {
    use common::stream::StreamPart;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::daemon::gateway::{JobMeter, JobReadings, MeterSettings, Upstream};
    use crate::model_server::{Secret, UpstreamSettings};

    #[tokio::test]
    async fn a_worker_that_sends_no_more_ends_its_open_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let upstream = Upstream::new(&UpstreamSettings { base_url, ..UpstreamSettings::default() }).unwrap();
        let job = "a#1".parse().unwrap();
        let meter = JobMeter::new(job, MeterSettings::default(), JobReadings::default());
        let route = JobRoute::new(Secret::new("token"), Arc::new(upstream), Arc::new(meter));
        let (parts, _queue) = mpsc::channel(16);
        let handle = StreamHandle::new(1, parts);
        let head = "POST /v1/responses HTTP/1.1\r\nauthorization: Bearer token\r\ncontent-length: 2";
        // The beginning of another request hides the end from the HTTP server, which reads no further.
        handle.receive(StreamPart::Data(format!("{head}\r\n\r\n{{}}POST ").into_bytes())).unwrap();
        let serving = tokio::spawn({
            let handle = handle.clone();
            async move { serve_connection(&handle, Arc::new(route)).await }
        });
        let (mut model, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert_ne!(model.read_buf(&mut request).await.unwrap(), 0);
        }
        handle.receive(StreamPart::Close(None)).unwrap();
        serving.await.unwrap();
        assert_eq!(model.read(&mut [0; 16]).await.unwrap_or(0), 0, "the request has ended, too");
    }
}
