//! Stdin and stdout as a transport for rmcp. Rmcp's own transport does not answer a line that is not JSON, and reads up
//! to 16 MiB of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;

use super::frame::{self, ParsedLine};
use super::stdin_lines::InputLine;

type SendFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

pub(super) struct StdioTransport<W> {
    lines: Receiver<InputLine>,
    output: Arc<Mutex<W>>,
    /// Refusal that is being sent. It is kept here because rmcp may drop a `receive` at any time.
    pending_refusal: Option<SendFuture>,
    /// True once a request was received: rmcp requires one before any other message, and earlier ones have no meaning.
    request_received: bool,
}

impl<W> StdioTransport<W> {
    /// Creates a transport that reads from `lines` and writes to `output`.
    pub(super) fn new(lines: Receiver<InputLine>, out: W) -> Self {
        Self { lines, output: Arc::new(Mutex::new(out)), pending_refusal: None, request_received: false }
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> Transport<RoleServer> for StdioTransport<W> {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let out = self.output.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut out = out.lock().await;
            out.write_all(&line).await?;
            out.flush().await
        }
    }

    /// Receives a message. Cancel-safe: a line is either still in the channel or returned, and the next call continues
    /// to send a pending refusal.
    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(sending) = &mut self.pending_refusal {
                let sent = sending.await;
                self.pending_refusal = None;
                sent.ok()?;
            }
            match frame::parse_line(&self.lines.recv().await?) {
                ParsedLine::Message(message) => {
                    self.request_received |= matches!(*message, ClientJsonRpcMessage::Request(_));
                    if self.request_received {
                        return Some(*message);
                    }
                }
                ParsedLine::Invalid(error, id) => {
                    self.pending_refusal = Some(Box::pin(self.send(ServerJsonRpcMessage::error(error, id))));
                }
                ParsedLine::Ignored => {}
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.lines.close();
        Ok(())
    }
}
