//! Transport of a connection: reads frames from the WebSocket and writes frames to it, without interpreting them.

use std::sync::Arc;
use std::time::Duration;

use common::wire::{self, CLOSE_PROTOCOL, CLOSE_VERSION, DEAD_AFTER, RelayFrame};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use super::LinkError;
use super::connect::{RelayWebSocket, connect};
use crate::config::Config;

/// Maximum time for sending the close reason. The relay may no longer read it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: RelayWebSocket,
    /// Configuration that the connection was opened with.
    pub(super) config: Arc<Config>,
}

impl Connection {
    /// Connects to the relay of a configuration.
    ///
    /// # Errors
    /// [`LinkError`] names the stage that failed.
    pub(super) async fn open(config: Arc<Config>) -> Result<Self, LinkError> {
        Ok(Self { socket: connect(&config).await?, config })
    }

    /// Waits for a message. Returns its frame, or `None` for the WebSocket's own messages. Cancel-safe: a half-read
    /// message stays in the socket.
    ///
    /// # Errors
    /// The connection has ended, or the message is not a frame.
    pub(super) async fn receive(&mut self) -> Result<Option<RelayFrame>, LinkError> {
        parse_frame(self.socket.next().await)
    }

    /// Writes a frame to the socket. A relay that does not read for [`DEAD_AFTER`] counts as gone.
    pub(super) async fn send(&mut self, frame: Vec<u8>) -> Result<(), LinkError> {
        check_write(timeout(DEAD_AFTER, self.socket.feed(Message::binary(frame))).await)
    }

    /// Flushes the socket.
    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        check_write(timeout(DEAD_AFTER, self.socket.flush()).await)
    }

    /// Closes the connection. If the relay broke the protocol, the close message says how.
    pub(super) async fn close(mut self, error: &LinkError) {
        if let LinkError::Protocol(reason) = error {
            let close = CloseFrame {
                code: CLOSE_PROTOCOL.into(),
                reason: common::text_format::one_line(reason, 100).into(),
            };
            let _ = timeout(CLOSE_TIMEOUT, self.socket.close(Some(close))).await;
        }
    }
}

/// Returns the frame of a message; `None` for the WebSocket's own messages.
fn parse_frame(
    message: Option<Result<Message, tungstenite::Error>>,
) -> Result<Option<RelayFrame>, LinkError> {
    match message {
        Some(Ok(Message::Binary(bytes))) => {
            wire::decode(&bytes).map(Some).map_err(|error| LinkError::Protocol(error.to_string()))
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Ok(Message::Text(_))) => Err(LinkError::Protocol("it sent text".to_owned())),
        Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == CLOSE_VERSION => {
            Err(LinkError::Version(common::text_format::one_line(&frame.reason, 200)))
        }
        Some(Ok(Message::Close(frame))) => Err(LinkError::Closed(frame.map_or_else(
            || "no reason given".to_owned(),
            |frame| {
                common::text_format::one_line(&format!("{} {}", u16::from(frame.code), frame.reason), 200)
            },
        ))),
        // A relay that is killed does not close TLS properly.
        Some(Err(tungstenite::Error::Io(error))) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(LinkError::Closed("end of the connection".to_owned()))
        }
        Some(Err(error)) => Err(LinkError::Closed(error.to_string())),
        None => Err(LinkError::Closed("end of the connection".to_owned())),
    }
}

fn check_write(
    result: Result<Result<(), tungstenite::Error>, tokio::time::error::Elapsed>,
) -> Result<(), LinkError> {
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(LinkError::Closed(error.to_string())),
        Err(_) => Err(LinkError::Silent),
    }
}
