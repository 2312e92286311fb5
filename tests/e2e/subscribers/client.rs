//! A subscriber that uses a WebSocket.

use std::net::SocketAddr;

use futures_util::StreamExt;
use relay_tests::harness::{PATIENCE, Site};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Returns the token with which programs subscribe.
pub(crate) fn token(site: &Site) -> String {
    std::fs::read_to_string(site.registry().join("api-token")).unwrap().trim().to_owned()
}

/// Next message of a subscriber's stream, or its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// An event: id and text.
    Event(u64, String),
    /// A close frame: code and reason.
    Closed(u16, String),
    /// The connection broke.
    Broken,
}

/// A subscriber with a connection to a relay.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Subscribes with a query such as `?since=0`, and with a small receive buffer in the kernel.
    pub(crate) async fn subscribe(site: &Site, query: &str) -> Result<Self, Error> {
        Self::subscribe_with_token(site.address(), query, &token(site)).await
    }

    pub(crate) async fn subscribe_with_token(
        address: SocketAddr,
        query: &str,
        token: &str,
    ) -> Result<Self, Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 * 1024)?;
        let stream = socket.connect(address).await?;
        let mut request = format!("ws://{address}/api/v1/events{query}").into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (socket, _) = client_async(request, stream).await?;
        Ok(Self { socket })
    }

    /// Closes the connection and returns the relay's close code; none if the connection broke without one.
    pub(crate) async fn close(mut self) -> Option<u16> {
        self.socket.close(None).await.unwrap();
        loop {
            match timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Close(frame))) => {
                    return Some(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Waits for the next message.
    pub(crate) async fn next(&mut self) -> Received {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => {
                    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
                    return Received::Event(line["id"].as_u64().unwrap(), text.to_string());
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Received::Closed(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Broken,
            }
        }
    }
}
