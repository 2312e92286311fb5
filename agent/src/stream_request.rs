//! Requests for streams: each connects a program of a job with a service at the relay, mostly git in the job's clone
//! with the job's repository.
//!
//! For git, the uplink makes a socket pair: it keeps one end, and the job gives the other end to the program. A program
//! that has connected to a port of the job already has a socket, which the uplink takes over.

use std::io;
use std::os::fd::OwnedFd;

use common::stream::{StreamEnd, StreamError, StreamService};
use tokio::net::TcpStream;
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
    pub(crate) job_side: JobSide,
}

/// The job's side of a requested stream.
#[derive(Debug)]
pub(crate) enum JobSide {
    /// A socket that the uplink makes and sends to the job.
    NewSocket(oneshot::Sender<io::Result<OpenedStream>>),
    /// A connection of a program of the job.
    Connection {
        connection: TcpStream,
        /// Bytes of the connection that were read already.
        received: Vec<u8>,
        /// Sender of the stream's result. The stream ends if the job drops the receiver.
        result: oneshot::Sender<io::Result<()>>,
    },
}

/// A stream for which the uplink has made the sockets.
#[derive(Debug)]
pub(crate) struct OpenedStream {
    /// The job's side of the socket, for git.
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
    /// Opens a stream. Waits for a connection to the relay without limit; dropping the future withdraws the request.
    ///
    /// # Errors
    /// The system has no more sockets, or the agent is stopping.
    pub(crate) async fn open(&self, run: &RunId, service: StreamService) -> io::Result<OpenedStream> {
        let (opened, stream) = oneshot::channel();
        self.request(run, service, JobSide::NewSocket(opened)).await?;
        stream.await.map_err(|_| stopping())?
    }

    /// Forwards a connection of a job to the relay until the connection or the stream has ended. `received` are bytes of it
    /// that were read already. Waits for a connection to the relay without limit; dropping the future ends both.
    ///
    /// # Errors
    /// The stream was refused or has failed, or the agent is stopping.
    pub(crate) async fn forward(
        &self,
        run: &RunId,
        service: StreamService,
        connection: TcpStream,
        received: Vec<u8>,
    ) -> io::Result<()> {
        let (result, end) = oneshot::channel();
        self.request(run, service, JobSide::Connection { connection, received, result }).await?;
        end.await.map_err(|_| stopping())?
    }

    async fn request(&self, run: &RunId, service: StreamService, job_side: JobSide) -> io::Result<()> {
        let request = StreamRequest { run: run.clone(), service, job_side };
        self.requests.send(request).await.map_err(|_| stopping())
    }
}

fn stopping() -> io::Error {
    io::Error::other("the agent is stopping")
}
