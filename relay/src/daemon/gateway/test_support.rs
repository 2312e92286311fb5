//! Model servers and workers for the tests of the gateway.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::client::{UpstreamClient, new_client};
use super::{JobMeter, JobReadings, JobRoute, MeterSettings, Upstream, serve_connection};
use crate::model_server::{Secret, UpstreamSettings};

pub(super) const KEY: &str = "sk-real-key-of-the-user";
pub(super) const TOKEN: &str = "token-of-the-job";
/// Separates an answer that never comes from a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A model server that answers each connection's first request with the same bytes, and keeps what it was sent.
pub(super) struct ScriptedServer {
    pub(super) base_url: String,
    received: Arc<Mutex<Vec<String>>>,
}

impl ScriptedServer {
    /// Starts a server whose answer is `answer`. It closes the connection after it.
    pub(super) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        Self::with(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await
    }

    /// Starts a server that answers each connection's first request with what `answer` returns for it.
    pub(super) async fn answering_requests(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::with_request(move |mut stream, request| {
            let answer = answer(&request);
            async move {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await
    }

    /// Starts a server that calls `answer` once it has read a request.
    pub(super) async fn with<F, W>(answer: F) -> Self
    where
        F: Fn(TcpStream) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        Self::with_request(move |stream, _| answer(stream)).await
    }

    async fn with_request<F, W>(answer: F) -> Self
    where
        F: Fn(TcpStream, String) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/base/v1", listener.local_addr().unwrap());
        let received: Arc<Mutex<Vec<String>>> = Arc::default();
        let (requests, answer) = (Arc::clone(&received), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    requests.lock().unwrap().push(request.clone());
                    answer(stream, request).await;
                });
            }
        });
        Self { base_url, received }
    }

    /// Returns the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the route of a job to this server.
    pub(super) fn route(&self) -> Arc<JobRoute> {
        route_to(&self.base_url)
    }
}

/// Returns the route of a job to a server with a key.
pub(super) fn route_to(base_url: &str) -> Arc<JobRoute> {
    route_through(base_url, new_client(None, Matcher::builder().build()))
}

/// Returns the route of a job to a server with a key, which is reached with this client.
pub(super) fn route_through(base_url: &str, client: UpstreamClient) -> Arc<JobRoute> {
    let settings = UpstreamSettings {
        base_url: base_url.to_owned(),
        key: Some(Secret::new(KEY)),
        headers: vec![("x-team".to_owned(), Secret::new("blue"))],
        query: vec![("api-version".to_owned(), Secret::new("2026-11 a"))],
        ..UpstreamSettings::default()
    };
    route_with(Upstream::with_client(&settings, client).unwrap())
}

/// Returns the route of a job to this server.
pub(super) fn route_with(upstream: Upstream) -> Arc<JobRoute> {
    let meter = JobMeter::new("proj#1".parse().unwrap(), MeterSettings::default(), JobReadings::default());
    Arc::new(JobRoute::new(Secret::new(TOKEN), Arc::new(upstream), Arc::new(meter)))
}

/// Reads a request with its body, of a length or in chunks.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut head_end = None;
    loop {
        head_end = head_end.or_else(|| memchr::memmem::find(&text, b"\r\n\r\n").map(|at| at + 4));
        if let Some(start) = head_end {
            let head = String::from_utf8_lossy(&text[..start]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let is_whole = match length {
                Some(length) => text.len() - start >= length.parse().unwrap(),
                None => !head.contains("chunked") || text.ends_with(b"0\r\n\r\n"),
            };
            if is_whole {
                break;
            }
        }
        if matches!(stream.read_buf(&mut text).await, Ok(0) | Err(_)) {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Connects a worker to the gateway.
pub(super) fn connect(route: &Arc<JobRoute>) -> DuplexStream {
    let (worker, gateway) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve_connection(gateway, Arc::clone(route)));
    worker
}

/// Sends bytes on a connection of its own and returns everything that comes back until it is closed.
pub(super) async fn exchange(route: &Arc<JobRoute>, request: &str) -> String {
    let (mut reader, mut writer) = tokio::io::split(connect(route));
    let request = request.as_bytes().to_vec();
    let sending = tokio::spawn(async move {
        // The gateway may close the connection before it has read everything.
        let _ = writer.write_all(&request).await;
        writer
    });
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    sending.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns a request of a worker, the last one on its connection.
pub(super) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Returns an answer with a body of a known length.
pub(super) fn http_answer(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}");
    format!("{head}\r\nconnection: close\r\n\r\n{body}")
}

/// Splits an answer into its first line and its body.
pub(super) fn status_and_body(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    (head.lines().next().unwrap_or_default(), body)
}
