//! Pending connections, which have not sent a request yet: limits on their age and number.
//!
//! ```text
//!  accepted ──TLS handshake, if the first byte begins one──► whole head of a request ──► the routes ──► upgraded, or
//!     │ both not within HEAD_TIMEOUT, a head over MAX_HEAD, more than MAX_PENDING after it        answered and closed
//!     └──────────────────────────────────────────────────────────────────► dropped
//! ```
//!
//! One port serves TLS and plain HTTP: agents use TLS, programs on this machine may use plain HTTP.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use common::wire;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::tls;

/// Time limit from the start of a connection to the end of its request's head. Honest clients need milliseconds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of a request's head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Maximum number of connections without a request. When there are more, the oldest is dropped. Honest clients leave
/// this state within milliseconds. Each connection costs some 15 KiB.
const MAX_PENDING: usize = 2048;
/// Time limit for a client that does not read its response, which stays in memory; the same as for a silent agent.
const WRITE_TIMEOUT: Duration = wire::DEAD_AFTER;
/// Pause after a failed accept. Mostly no file descriptor was free; during the pause, open connections can end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Connections without a request yet, oldest first.
#[derive(Debug, Clone, Default)]
struct PendingConnections(Arc<Mutex<PendingTasks>>);

#[derive(Debug, Default)]
struct PendingTasks {
    last_number: u64,
    tasks: BTreeMap<u64, Option<AbortHandle>>,
}

impl PendingConnections {
    /// Adds a connection; drops the oldest if there are too many.
    fn add(&self) -> PendingConnection {
        let mut pending_tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending_tasks.last_number += 1;
        let number = pending_tasks.last_number;
        pending_tasks.tasks.insert(number, None);
        if pending_tasks.tasks.len() > MAX_PENDING
            && let Some((_, Some(oldest))) = pending_tasks.tasks.pop_first()
        {
            oldest.abort();
        }
        PendingConnection { number, pending: self.clone() }
    }

    fn remove(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tasks.remove(&number);
    }
}

/// A pending connection, counted until it is dropped.
#[derive(Debug)]
struct PendingConnection {
    number: u64,
    pending: PendingConnections,
}

impl PendingConnection {
    /// Stores the handle that aborts the connection's task, unless the connection has already sent its request.
    fn set_task(number: u64, pending: &PendingConnections, task: AbortHandle) {
        let mut pending_tasks = pending.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = pending_tasks.tasks.get_mut(&number) {
            *slot = Some(task);
        }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.pending.remove(self.number);
    }
}

/// Routes of the HTTP server, by transport.
#[derive(Debug, Clone)]
pub(super) struct Routes {
    /// Routes over TLS.
    pub(super) tls: Router,
    /// Routes over plain HTTP.
    pub(super) plain: Router,
}

/// Listener of the daemon.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// Socket for agents alone, which use TLS there, too.
    Unix(UnixListener),
}

/// A connection that was accepted.
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

/// Accepts connections until the runtime ends.
pub(super) async fn accept_connections(listener: Listener, routes: Routes, acceptor: TlsAcceptor) {
    let pending = PendingConnections::default();
    let mut is_failing = false;
    loop {
        match listener.accept().await {
            Ok(stream) => {
                is_failing = false;
                let connection = pending.add();
                let number = connection.number;
                let task =
                    tokio::spawn(serve_connection(stream, routes.clone(), acceptor.clone(), connection));
                PendingConnection::set_task(number, &pending, task.abort_handle());
            }
            // The client gave up before its connection was accepted.
            Err(e)
                if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(e) => {
                if !is_failing {
                    tracing::error!("no connection can be accepted: {e}");
                }
                is_failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: Accepted,
    routes: Routes,
    acceptor: TlsAcceptor,
    connection: PendingConnection,
) {
    let deadline = Instant::now() + HEAD_TIMEOUT;
    let stream = match stream {
        Accepted::Tcp(stream) => stream,
        Accepted::Unix(stream) => {
            return serve_tls(with_write_timeout(stream), routes, acceptor, deadline, connection).await;
        }
    };
    // Acknowledgements are small and should not be delayed. If the option can't be set, they only arrive later.
    let _ = stream.set_nodelay(true);
    let mut first_byte = [0];
    let Ok(Ok(1)) = timeout_at(deadline, stream.peek(&mut first_byte)).await else { return };
    let stream = with_write_timeout(stream);
    if first_byte[0] != tls::HANDSHAKE_RECORD {
        return serve_request(stream, routes.plain, deadline, connection).await;
    }
    serve_tls(stream, routes, acceptor, deadline, connection).await;
}

fn with_write_timeout<S: AsyncRead + AsyncWrite>(stream: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(WRITE_TIMEOUT));
    stream
}

/// Serves one request over TLS.
async fn serve_tls<S>(
    stream: S,
    routes: Routes,
    acceptor: TlsAcceptor,
    deadline: Instant,
    connection: PendingConnection,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match timeout_at(deadline, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve_request(stream, routes.tls, deadline, connection).await,
        Ok(Err(e)) => tracing::debug!("no TLS handshake: {}", tls::handshake_failure_reason(&e)),
        Err(_) => tracing::debug!("no TLS handshake in time"),
    }
}

/// Serves one request, whose head must arrive before `deadline`.
async fn serve_request<S>(stream: S, routes: Router, deadline: Instant, connection: PendingConnection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Mutex::new(Some(connection));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        drop(connection.lock().unwrap_or_else(PoisonError::into_inner).take());
        answer_and_close(routes.clone(), request.map(axum::body::Body::new))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadline.saturating_duration_since(Instant::now()))
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(e) = served {
        tracing::debug!("a connection ended: {e}");
    }
}

/// Answers a single request and closes the connection, because further requests would bypass the limits of pending
/// connections.
async fn answer_and_close(mut routes: Router, request: Request) -> Result<Response, Infallible> {
    let mut response = routes.call(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
