//! Runs the server until the end of stdin.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rmcp::serve_server;
use tokio::runtime::Builder;

use super::server::{MAX_CONCURRENT, McpServer};
use super::transport::StdioTransport;
use super::{Tool, stdin_lines};
use crate::exit::Failure;

/// Serves `tools` until stdin ends.
///
/// # Errors
/// Returns an error if the server can't be started, or its client does not use MCP.
pub fn serve_stdio(instructions: &'static str, tools: Vec<Tool>) -> Result<(), Failure> {
    let broken = |e: io::Error| Failure::unreachable(format!("the MCP server can't be started: {e}"));
    // One thread for each call, and one for writing.
    let runtime =
        Builder::new_current_thread().enable_time().max_blocking_threads(MAX_CONCURRENT + 1).build();
    let runtime = runtime.map_err(broken)?;
    let over = Arc::new(AtomicBool::new(false));
    let lines = stdin_lines::spawn_reader(io::stdin(), over.clone()).map_err(broken)?;
    let served = runtime.block_on(async {
        let server = McpServer::new(instructions, tools, over);
        match serve_server(server, StdioTransport::new(lines, tokio::io::stdout())).await {
            Ok(running) => running.waiting().await.map(drop).map_err(|e| e.to_string()),
            // A client that disconnects before its first message is not an error.
            Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    });
    // Calls in progress are cancelled, because no client waits for them.
    runtime.shutdown_background();
    served.map_err(|e| Failure::unreachable(format!("the MCP client can't be served: {e}")))
}
