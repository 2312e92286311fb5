//! Requests for streams: each connects a program of a job with a service at the relay, mostly git in the job's clone
//! with the job's repository.
//!
//! The uplink makes a socket pair for each stream. It keeps one end, and the job gives the other end to the program.

use std::io;
use std::os::fd::OwnedFd;

use common::stream::{StreamEnd, StreamError, StreamService};
use tokio::sync::{mpsc, oneshot};

use crate::spool::RunId;

/// Maximum number of requests that are queued for the uplink. Further ones wait in their jobs.
const MAX_REQUESTS: usize = common::job::MAX_AGENT_JOBS as usize;

/// Request for a stream.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    /// Run that the stream belongs to.
    pub(crate) run: RunId,
    pub(crate) service: StreamService,
    /// Sender that gives the opened stream to the job.
    pub(crate) opened: oneshot::Sender<io::Result<OpenedStream>>,
}

/// A stream for which the uplink has made the sockets.
#[derive(Debug)]
pub(crate) struct OpenedStream {
    /// The job's side of the socket, for git or for a connection of Codex.
    pub(crate) job_side: OwnedFd,
    pub(crate) result: StreamResult,
}

/// Receiver of the result of a stream, which it has once the stream has ended.
#[derive(Debug)]
pub(crate) struct StreamResult(pub(crate) oneshot::Receiver<StreamEnd>);

impl StreamResult {
    /// Waits for the end of the stream.
    pub(crate) async fn wait(self) -> StreamEnd {
        self.0.await.unwrap_or(Err(StreamError::Lost))
    }
}

/// Sender of stream requests to the uplink.
#[derive(Debug, Clone)]
pub(crate) struct StreamOpener {
    requests: mpsc::Sender<StreamRequest>,
}

/// Creates the queue of stream requests: the sender for jobs and the receiver for the uplink.
pub(crate) fn queue() -> (StreamOpener, mpsc::Receiver<StreamRequest>) {
    let (requests, queue) = mpsc::channel(MAX_REQUESTS);
    (StreamOpener { requests }, queue)
}

impl StreamOpener {
    /// Opens a stream. Waits for a connection without limit; dropping the future withdraws the request.
    ///
    /// # Errors
    /// The system has no more sockets, or the agent is stopping.
    pub(crate) async fn open(&self, run: &RunId, service: StreamService) -> io::Result<OpenedStream> {
        let stopping = || io::Error::other("the agent is stopping");
        let (opened, stream) = oneshot::channel();
        let request = StreamRequest { run: run.clone(), service, opened };
        self.requests.send(request).await.map_err(|_| stopping())?;
        stream.await.map_err(|_| stopping())?
    }
}
