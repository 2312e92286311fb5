//! The port at which one run finds the model. Forwards each connection to the relay as a stream.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::stream::{MAX_MODEL_STREAMS, StreamService};
use common::wire::ModelToken;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::loopback_port::{ACCEPT_PAUSE, LoopbackPort};
use crate::spool::RunId;
use crate::stream_request::StreamOpener;

/// Maximum number of connections of a run at once, many times what Codex opens with several agents in one thread.
/// Further ones take the place of connections without a token, or wait in the system's queue.
const MAX_CONNECTIONS: usize = 32;
/// Time limit for the head of the first request. Codex connects when it has one to send.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes in which a connection has to show the token, as many as the relay reads of a head.
const MAX_HEAD: usize = 64 * 1024;
/// End of the head of a request.
const HEAD_END: &[u8] = b"\r\n\r\n";

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

/// Listens on a free port for the connections of a run, which show this token.
///
/// # Errors
/// The system has no free port or file descriptor.
pub(crate) async fn listen(run: RunId, token: ModelToken, streams: ModelStreams) -> io::Result<LoopbackPort> {
    let run_port = Arc::new(RunPort { run, token, streams });
    LoopbackPort::open(|listener| accept_connections(listener, run_port)).await
}

/// Parts that all connections of a run need.
struct RunPort {
    run: RunId,
    token: ModelToken,
    streams: ModelStreams,
}

/// A connection that is being served.
struct OpenConnection {
    task: AbortHandle,
    has_token: Arc<AtomicBool>,
}

impl OpenConnection {
    /// Returns true for a connection that has not shown the token.
    fn is_stranger(&self) -> bool {
        !self.has_token.load(Ordering::Relaxed) && !self.task.is_finished()
    }
}

async fn accept_connections(listener: TcpListener, port: Arc<RunPort>) {
    let mut tasks = JoinSet::new();
    // Connections, the oldest first.
    let mut open: Vec<OpenConnection> = Vec::new();
    loop {
        let has_room = tasks.len() < MAX_CONNECTIONS || open.iter().any(OpenConnection::is_stranger);
        // Cancel-safe: `accept` and `join_next` lose nothing when the other branch wins.
        tokio::select! {
            Some(_) = tasks.join_next() => open.retain(|connection| !connection.task.is_finished()),
            accepted = listener.accept(), if has_room => match accepted {
                Ok((connection, _)) => {
                    if tasks.len() >= MAX_CONNECTIONS {
                        end_oldest_stranger(&mut open);
                    }
                    let has_token = Arc::new(AtomicBool::new(false));
                    let task = tasks.spawn(serve_connection(connection, Arc::clone(&port), Arc::clone(&has_token)));
                    open.push(OpenConnection { task, has_token });
                }
                Err(error) => {
                    tracing::warn!("{}: a connection to the model can't be accepted: {error}", port.run.job);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Ends the oldest connection without the token, so that connections of other programs can't keep Codex out.
fn end_oldest_stranger(open: &mut Vec<OpenConnection>) {
    if let Some(oldest) = open.iter().position(OpenConnection::is_stranger) {
        open.remove(oldest).task.abort();
    }
}

/// Forwards one connection to the relay until its end. Without a connection to the relay, it waits for one: Codex waits for its answer,
/// and the limit of the model's step covers that.
async fn serve_connection(connection: TcpStream, port: Arc<RunPort>, has_token: Arc<AtomicBool>) {
    if let Err(error) = try_serve_connection(connection, &port, &has_token).await {
        // Codex tries again, and reports if that fails, too.
        tracing::info!("{}: a connection to the model ended early: {error}", port.run.job);
    }
}

async fn try_serve_connection(
    mut connection: TcpStream,
    port: &RunPort,
    has_token: &AtomicBool,
) -> io::Result<()> {
    // Tokens of the model arrive one by one, in packets that must not wait for each other.
    connection.set_nodelay(true)?;
    let token = port.token.as_str().as_bytes();
    // A connection takes none of the shared streams before it has sent its first head.
    let head = timeout(HEAD_TIMEOUT, read_head(&mut connection, token)).await??;
    // Without the token, the relay counts the request and refuses it.
    has_token.store(contains(&head, token), Ordering::Relaxed);
    let _permit = port.streams.permits.acquire().await.map_err(io::Error::other)?;
    port.streams.opener.forward(&port.run, StreamService::Model, connection, head).await
}

/// Reads until the token or the end of the first head has arrived. Returns all bytes that were read.
async fn read_head(connection: &mut TcpStream, token: &[u8]) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !contains(&head, token) && !contains(&head, HEAD_END) && head.len() < MAX_HEAD {
        if connection.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len().max(1)).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use tokio::io::AsyncWriteExt;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::stream_request::{self, JobSide, StreamRequest};

    const TOKEN: &str = "t0ken-of-this-job";

    async fn model_port() -> (LoopbackPort, mpsc::Receiver<StreamRequest>) {
        let (opener, requests) = stream_request::queue();
        let run = RunId { job: "a#1".parse().unwrap(), epoch: 1 };
        let streams = ModelStreams::new(opener);
        (listen(run, ModelToken::new(TOKEN.to_owned()), streams).await.unwrap(), requests)
    }

    async fn connect(port: &LoopbackPort) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).await.unwrap()
    }

    /// Takes the next connection in the uplink's place. Returns the bytes that were read from it, the connection, and the
    /// sender that ends it.
    async fn next_connection(
        requests: &mut mpsc::Receiver<StreamRequest>,
    ) -> (Vec<u8>, TcpStream, oneshot::Sender<io::Result<()>>) {
        match requests.recv().await.unwrap().job_side {
            JobSide::Connection { connection, received, result } => (received, connection, result),
            JobSide::NewSocket(_) => unreachable!("the port has a connection already"),
        }
    }

    #[tokio::test]
    async fn silent_connections_neither_keep_codex_out_nor_take_streams() {
        let (port, mut requests) = model_port().await;
        let mut silent = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            silent.push(connect(&port).await);
        }
        let mut codex = connect(&port).await;
        let head = format!("POST / HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n");
        codex.write_all(head.as_bytes()).await.unwrap();
        let (mut received, mut connection, _end) = next_connection(&mut requests).await;
        while received.len() < head.len() {
            assert_ne!(connection.read_buf(&mut received).await.unwrap(), 0);
        }
        assert_eq!(received, head.as_bytes());
        assert!(requests.try_recv().is_err(), "a silent connection has asked for a stream");
    }

    #[tokio::test]
    async fn connections_with_the_token_are_not_ended_for_others() {
        let (port, mut requests) = model_port().await;
        let (mut codex, mut streams) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut connection = connect(&port).await;
            connection.write_all(TOKEN.as_bytes()).await.unwrap();
            streams.push(next_connection(&mut requests).await);
            codex.push(connection);
        }
        let mut strangers = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            strangers.push(connect(&port).await);
        }
        // The oldest stranger has been ended once there were too many.
        assert!(!matches!(strangers[0].read(&mut [0]).await, Ok(1..)));
        for ((_, stream, _), connection) in streams.iter_mut().zip(&mut codex) {
            stream.write_all(b"answer").await.unwrap();
            let mut answer = [0; 6];
            connection.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
        }
    }

    #[tokio::test]
    async fn a_request_without_the_token_reaches_the_relay_to_be_refused() {
        let (port, mut requests) = model_port().await;
        let mut stranger = connect(&port).await;
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let (received, _connection, _end) = next_connection(&mut requests).await;
        assert_eq!(received, b"GET / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_connection_that_sends_no_head_is_closed() {
        let (port, _requests) = model_port().await;
        let (mut silent, begin) = (connect(&port).await, Instant::now());
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        assert!(begin.elapsed() < 12 * HEAD_TIMEOUT);
    }
}
