//! TCP connection or Unix socket, TLS handshake and WebSocket upgrade, in this order: the token is sent only to the relay
//! whose certificate is pinned.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use common::wire::{MAX_MESSAGE, SUBPROTOCOL, TLS_NAME};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::LinkError;
use crate::config::Config;

/// Timeout for each of TCP connection, TLS handshake and upgrade. A relay needs milliseconds. After a timeout the
/// attempt is repeated.
const STAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of the WebSocket's buffers, in bytes. The relay's messages are small; send windows bound the agent's.
const WEBSOCKET_BUFFER: usize = 32 * 1024;

/// A stream of bytes to the relay: TCP, or a Unix socket.
pub(super) trait RelayStream: fmt::Debug + AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: fmt::Debug + AsyncRead + AsyncWrite + Unpin + Send> RelayStream for S {}

/// A connection to the relay.
pub(super) type RelayWebSocket = WebSocketStream<TlsStream<Box<dyn RelayStream>>>;

/// Connects to the relay.
///
/// # Errors
/// [`LinkError`] names the stage that failed.
pub(super) async fn connect(config: &Config) -> Result<RelayWebSocket, LinkError> {
    let stream = if let Some(socket) = &config.socket {
        open_stream(&socket.display().to_string(), UnixStream::connect(socket)).await?
    } else {
        let (host, port) = host_and_port(&config.url)?;
        open_stream(&format!("{host}:{port}"), connect_tcp(&host, port)).await?
    };
    let stream = tls_handshake(config, stream).await?;
    let request = upgrade_request(config)?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(WEBSOCKET_BUFFER)
        .write_buffer_size(WEBSOCKET_BUFFER);
    match timeout(STAGE_TIMEOUT, client_async_with_config(request, stream, Some(limits))).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => Err(LinkError::Refused(response.status().as_u16())),
        Ok(Err(error)) => Err(LinkError::Handshake(error.to_string())),
        Err(_) => Err(LinkError::Handshake(format!("no answer within {STAGE_TIMEOUT:?}"))),
    }
}

/// Waits for a connection to an address.
async fn open_stream<S: RelayStream + 'static>(
    address: &str,
    connecting: impl Future<Output = io::Result<S>>,
) -> Result<Box<dyn RelayStream>, LinkError> {
    let unreachable = |reason: String| LinkError::Unreachable { address: address.to_owned(), reason };
    match timeout(STAGE_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("no answer within {STAGE_TIMEOUT:?}"))),
    }
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Events are small and should not be delayed. If the option can't be set, they only arrive later.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Performs the TLS handshake, before anything else is sent. It fails if the peer does not have the key of the pinned
/// certificate.
async fn tls_handshake(
    config: &Config,
    stream: Box<dyn RelayStream>,
) -> Result<TlsStream<Box<dyn RelayStream>>, LinkError> {
    let tls = tls_config(config).map_err(LinkError::Handshake)?;
    let name = ServerName::try_from(TLS_NAME).map_err(|error| LinkError::Handshake(error.to_string()))?;
    match timeout(STAGE_TIMEOUT, TlsConnector::from(Arc::new(tls)).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(LinkError::Handshake(tls_failure_reason(&error))),
        Err(_) => Err(LinkError::Handshake(format!("no answer within {STAGE_TIMEOUT:?}"))),
    }
}

/// Returns a TLS configuration that trusts only one relay, and no public authority.
fn tls_config(config: &Config) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(config.pinned_certificate()?)
        .map_err(|error| format!("the configuration's certificate can't be used: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

/// Returns the reason for which the handshake failed.
fn tls_failure_reason(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "its certificate is not that of this agent's relay".to_owned()
        }
        _ => error.to_string(),
    }
}

fn host_and_port(url: &str) -> Result<(String, u16), LinkError> {
    let uri: Uri = url.parse().map_err(|_| LinkError::Handshake("the url is not valid".to_owned()))?;
    let host = uri.host().unwrap_or_default();
    // An IPv6 address has brackets only in a URL.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
}

fn upgrade_request(config: &Config) -> Result<tungstenite::handshake::client::Request, LinkError> {
    let unsendable = |part: &str| LinkError::Handshake(format!("the {part} can't be sent"));
    let mut request = config.url.as_str().into_client_request().map_err(|_| unsendable("url"))?;
    let mut token =
        HeaderValue::from_str(&format!("Bearer {}", config.token)).map_err(|_| unsendable("token"))?;
    token.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, token);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_come_from_the_url() {
        assert_eq!(host_and_port("wss://127.0.0.1:9/agent").unwrap(), ("127.0.0.1".to_owned(), 9));
        assert_eq!(host_and_port("wss://[::1]:9/agent").unwrap(), ("::1".to_owned(), 9));
        assert_eq!(host_and_port("wss://host/agent").unwrap(), ("host".to_owned(), 443));
    }
}
