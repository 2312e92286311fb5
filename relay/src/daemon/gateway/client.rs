//! HTTP client for the model's server and for the hosts of secrets: pooled connections, TLS with the system's certificates, the environment's proxy.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::worker_body::WorkerBody;

/// Time limit for a connection, including name resolution and the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle time after which a pooled connection is closed. Load balancers keep an idle connection for a minute or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Interval of TCP keep-alive probes, which find out that a silent server is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Maximum size of the head of an answer, in bytes.
const MAX_HEAD: usize = 128 * 1024;

/// Body of a request: a worker's, which is streamed, or one that is in memory.
pub(in crate::daemon) type RequestBody = Either<WorkerBody, Full<Bytes>>;

/// Client with its pool of connections.
pub(in crate::daemon) type UpstreamClient = Client<Connector, RequestBody>;

/// Creates a client. A client without TLS settings serves only plain HTTP.
pub(in crate::daemon) fn new_client(tls: Option<Arc<ClientConfig>>, proxy: Matcher) -> UpstreamClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    let connector = Connector { tcp, tls: tls.map(TlsConnector::from), proxy: Arc::new(proxy) };
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector)
}

/// Returns TLS settings that trust the system's certificates.
///
/// # Errors
/// A one-line message if the system has no certificates.
pub(in crate::daemon) fn system_tls() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|e| format!("the system's certificates can't be loaded: {e}"))?;
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Opens connections to the model's server.
#[derive(Clone)]
pub(in crate::daemon) struct Connector {
    tcp: HttpConnector,
    tls: Option<TlsConnector>,
    proxy: Arc<Matcher>,
}

impl Connector {
    async fn connect(mut self, target: Uri) -> io::Result<UpstreamStream> {
        let is_tls = target.scheme_str() == Some("https");
        let proxy = self.proxy.intercept(&target).filter(|_| !is_loopback(&target));
        let tcp = match &proxy {
            Some(proxy) if is_tls => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                tunnel.call(target.clone()).await.map_err(io::Error::other)?
            }
            Some(proxy) => self.tcp.call(proxy.uri().clone()).await.map_err(io::Error::other)?,
            None => self.tcp.call(target.clone()).await.map_err(io::Error::other)?,
        };
        let tcp = tcp.into_inner();
        if !is_tls {
            return Ok(UpstreamStream { io: Box::new(tcp), is_proxied: proxy.is_some() });
        }
        let tls = self.tls.ok_or_else(|| io::Error::other("TLS is not set up"))?;
        let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(UpstreamStream { io: Box::new(tls.connect(name, tcp).await?), is_proxied: false })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UpstreamStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(self.tcp.poll_ready(context)).map_err(io::Error::other))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        // The connector that is ready is the one to use; its clone need not be.
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.clone().connect(target));
        Box::pin(async move {
            let in_time = connecting.await;
            in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
        })
    }
}

/// Returns the proxy through which the client reaches a target, if there is one.
///
/// # Errors
/// The scheme of a proxy that the client can't use.
pub(in crate::daemon) fn find_proxy(proxies: &Matcher, target: &Uri) -> Result<Option<Intercept>, String> {
    let proxy = proxies.intercept(target).filter(|_| !is_loopback(target));
    let scheme = proxy.as_ref().and_then(|proxy| proxy.uri().scheme_str());
    match scheme.filter(|scheme| *scheme != "http") {
        Some(scheme) => Err(scheme.to_owned()),
        None => Ok(proxy),
    }
}

/// Returns true for this machine, which no proxy reaches.
fn is_loopback(target: &Uri) -> bool {
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Bytes in both directions.
trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Connection to the model's server, or to a proxy for it.
pub(in crate::daemon) struct UpstreamStream {
    io: Box<dyn ByteStream>,
    /// True if a proxy reads the requests: it needs the whole URL in their first line.
    is_proxied: bool,
}

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
