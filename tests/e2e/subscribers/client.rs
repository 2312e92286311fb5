//! A subscriber on a WebSocket.

use std::net::SocketAddr;

use futures_util::StreamExt;
use relay_tests::harness::{PATIENCE, Site};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Token of programs that subscribe.
pub(crate) fn token(site: &Site) -> String {
    std::fs::read_to_string(site.registry().join("api-token")).unwrap().trim().to_owned()
}

/// Result of waiting for a subscriber's next message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An event: its id and its text.
    Event(u64, String),
    /// A close frame: code and reason.
    Closed(u16, String),
    /// The connection broke.
    Broken,
}

pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Subscribes with this query (`?since=0`), and a small receive buffer in the kernel.
    pub(crate) async fn subscribe(site: &Site, query: &str) -> Result<Self, Error> {
        Self::knock(site.address(), query, &token(site)).await
    }

    pub(crate) async fn knock(address: SocketAddr, query: &str, token: &str) -> Result<Self, Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 * 1024)?;
        let stream = socket.connect(address).await?;
        let mut request = format!("ws://{address}/api/v1/events{query}").into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (socket, _) = client_async(request, stream).await?;
        Ok(Self { socket })
    }

    /// Closes the connection and returns the close code of the other side; none if the connection just broke.
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
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => {
                    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
                    return Heard::Event(line["id"].as_u64().unwrap(), text.to_string());
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Heard::Closed(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Broken,
            }
        }
    }
}
