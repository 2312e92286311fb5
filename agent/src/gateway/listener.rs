//! The port of one run on loopback. Passes each connection on to the relay as a stream.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use common::stream::{GitService, MAX_MODEL_STREAMS};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::git_stream::{OpenedStream, StreamOpener};
use crate::spool::RunId;

/// Maximum number of connections of a run at once, many times what Codex opens with several agents in one thread.
/// Further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 32;
/// Pause after a failed `accept`: the system has no more file descriptors for now.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams to the model that all runs of an agent share.
#[derive(Debug, Clone)]
pub(crate) struct ModelStreams {
    opener: StreamOpener,
    /// Permits for open streams.
    permits: Arc<Semaphore>,
}

impl ModelStreams {
    pub(crate) fn new(opener: StreamOpener) -> Self {
        Self { opener, permits: Arc::new(Semaphore::new(MAX_MODEL_STREAMS)) }
    }
}

/// A listening port. Dropping this value closes the port and its connections.
#[derive(Debug)]
pub(crate) struct ModelListener {
    port: u16,
    task: JoinHandle<()>,
}

impl ModelListener {
    /// Listens on a free port for the connections of a run.
    ///
    /// # Errors
    /// The system has no free port or file descriptor.
    pub(crate) async fn bind(run: RunId, streams: ModelStreams) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(accept_connections(listener, run, streams));
        Ok(Self { port, task })
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for ModelListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_connections(listener: TcpListener, run: RunId, streams: ModelStreams) {
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: `accept` and `join_next` lose nothing when the other branch wins.
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((connection, _)) => drop(connections.spawn(carry(connection, run.clone(), streams.clone()))),
                Err(error) => {
                    tracing::warn!("{}: a connection to the model can't be accepted: {error}", run.job);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Carries one connection to its end. Without a connection to the relay, it waits for one: Codex waits for its answer,
/// and the limit of the model's step covers that.
async fn carry(connection: TcpStream, run: RunId, streams: ModelStreams) {
    if let Err(error) = try_carry(connection, &run, &streams).await {
        // Codex tries again, and reports if that fails, too.
        tracing::info!("{}: a connection to the model ended early: {error}", run.job);
    }
}

async fn try_carry(mut connection: TcpStream, run: &RunId, streams: &ModelStreams) -> io::Result<()> {
    // Tokens of the model arrive one by one, in packets that must not wait for each other.
    connection.set_nodelay(true)?;
    let _permit = streams.permits.acquire().await.map_err(io::Error::other)?;
    let OpenedStream { job_end, result } = streams.opener.open(run, GitService::Model).await?;
    let socket = StdStream::from(job_end);
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    // A stream that failed ends the connection at once. One that is complete leaves bytes in the socket to pass on.
    tokio::select! {
        copied = copy_bidirectional(&mut connection, &mut socket) => copied.map(drop),
        Err(error) = result.wait() => Err(io::Error::other(error)),
    }
}
