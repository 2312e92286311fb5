//! TCP and the WebSocket upgrade.

use std::time::Duration;

use common::wire::{MAX_MESSAGE, SUBPROTOCOL};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::LinkError;
use crate::config::Config;

/// For the connection, and again for the upgrade: a relay on this machine or the next needs milliseconds, and
/// whatever takes longer is tried again anyway.
const PATIENCE: Duration = Duration::from_secs(5);
/// The WebSocket's own buffers: what the relay sends is small, and what we send is bounded by the flow.
const BUFFER: usize = 32 * 1024;

/// A connection to the relay.
pub(super) type Socket = WebSocketStream<TcpStream>;

/// Connects.
///
/// # Errors
/// [`LinkError`] says how far it got.
pub(super) async fn dial(config: &Config) -> Result<Socket, LinkError> {
    let (host, port) = address(&config.url)?;
    let shown = format!("{host}:{port}");
    let unreachable = |reason: String| LinkError::Unreachable { address: shown.clone(), reason };
    let stream = match timeout(PATIENCE, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable(format!("no answer within {PATIENCE:?}"))),
    };
    // Events are small and each is waited for by somebody. Without the option they are only later.
    let _ = stream.set_nodelay(true);
    let request = request(config)?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER);
    match timeout(PATIENCE, client_async_with_config(request, stream, Some(limits))).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => Err(LinkError::Refused(response.status().as_u16())),
        Ok(Err(error)) => Err(LinkError::Handshake(error.to_string())),
        Err(_) => Err(LinkError::Handshake(format!("no answer within {PATIENCE:?}"))),
    }
}

fn address(url: &str) -> Result<(String, u16), LinkError> {
    let uri: Uri = url.parse().map_err(|_| LinkError::Handshake("the url is no address".to_owned()))?;
    let host = uri.host().unwrap_or_default();
    // An IPv6 address stands in brackets in a URL and nowhere else.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((host.to_owned(), uri.port_u16().unwrap_or(80)))
}

fn request(config: &Config) -> Result<tungstenite::handshake::client::Request, LinkError> {
    let bad = |what: &str| LinkError::Handshake(format!("the {what} can't be sent"));
    let mut request = config.url.as_str().into_client_request().map_err(|_| bad("url"))?;
    let mut token = HeaderValue::from_str(&format!("Bearer {}", config.token)).map_err(|_| bad("token"))?;
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
        assert_eq!(address("ws://127.0.0.1:9/agent").unwrap(), ("127.0.0.1".to_owned(), 9));
        assert_eq!(address("ws://[::1]:9/agent").unwrap(), ("::1".to_owned(), 9));
        assert_eq!(address("ws://host/agent").unwrap(), ("host".to_owned(), 80));
    }
}
