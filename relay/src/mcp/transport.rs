//! Stdin and stdout as a transport for the crate rmcp. The transport of rmcp reads lines of up to 16 MiB, and does not
//! answer a line that is not JSON.

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
    /// Refusal that is being sent. It survives a `receive` that rmcp drops before its end.
    pending_refusal: Option<SendFuture>,
    /// True once a request was received. Rmcp expects a request first, so earlier messages are ignored.
    has_received_request: bool,
}

impl<W> StdioTransport<W> {
    /// Creates a transport that reads from `lines` and writes to `output`.
    pub(super) fn new(lines: Receiver<InputLine>, output: W) -> Self {
        Self {
            lines,
            output: Arc::new(Mutex::new(output)),
            pending_refusal: None,
            has_received_request: false,
        }
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> Transport<RoleServer> for StdioTransport<W> {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let output = self.output.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut output = output.lock().await;
            output.write_all(&line).await?;
            output.flush().await
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
                    self.has_received_request |= matches!(*message, ClientJsonRpcMessage::Request(_));
                    if self.has_received_request {
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
