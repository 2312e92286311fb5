//! The two streams as a transport of rmcp. The transport of rmcp itself does not answer a line that is not JSON, and
//! reads up to 16 MiB of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;

use super::frame::{self, Frame};
use super::stdin_lines::Line;

/// Future that sends a message.
type Sending = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

pub(super) struct StdioTransport<W> {
    lines: Receiver<Line>,
    out: Arc<Mutex<W>>,
    /// Refusal that is being sent. It is kept here because rmcp may drop a `receive` at any time.
    refusal: Option<Sending>,
    /// True once a request was received: rmcp requires one before any other message, and earlier ones have no meaning.
    opened: bool,
}

impl<W> StdioTransport<W> {
    /// Creates a transport that reads from `lines` and writes to `out`.
    pub(super) fn new(lines: Receiver<Line>, out: W) -> Self {
        Self { lines, out: Arc::new(Mutex::new(out)), refusal: None, opened: false }
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> Transport<RoleServer> for StdioTransport<W> {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let out = self.out.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut out = out.lock().await;
            out.write_all(&line).await?;
            out.flush().await
        }
    }

    /// Receives a message. Cancel-safe: a line is either still in the channel or returned, and a refusal continues at
    /// the next call.
    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(sending) = &mut self.refusal {
                let sent = sending.await;
                self.refusal = None;
                sent.ok()?;
            }
            match frame::read(&self.lines.recv().await?) {
                Frame::Message(message) => {
                    self.opened |= matches!(*message, ClientJsonRpcMessage::Request(_));
                    if self.opened {
                        return Some(*message);
                    }
                }
                Frame::Refused(error, id) => {
                    self.refusal = Some(Box::pin(self.send(ServerJsonRpcMessage::error(error, id))));
                }
                Frame::Nothing => {}
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.lines.close();
        Ok(())
    }
}
