//! The MCP server, which lists and calls tools. Each call has its own thread, so that a waiting call blocks no other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CustomRequest, CustomResult, ErrorCode, ErrorData,
    Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, serve_server};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task;

use super::transport::StdioTransport;
use super::{CallContext, Reply, Tool, stdin_lines};
use crate::exit::Failure;

/// Maximum number of concurrent calls, each on a thread. A session needs fewer.
const MAX_CONCURRENT_CALLS: usize = 32;

struct McpServer {
    instructions: &'static str,
    tools: Arc<[Tool]>,
    call_permits: Arc<Semaphore>,
    is_over: Arc<AtomicBool>,
}

impl McpServer {
    /// Creates a server that offers `tools` until `is_over` is true.
    fn new(instructions: &'static str, tools: Vec<Tool>, is_over: Arc<AtomicBool>) -> Self {
        Self {
            instructions,
            tools: tools.into(),
            call_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS)),
            is_over,
        }
    }
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        let server = Implementation::new("relay", env!("CARGO_PKG_VERSION")).with_title("Workers of relay");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(server)
            .with_instructions(self.instructions)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.iter().map(Tool::listing).cloned().collect()))
    }

    /// Rejects requests that rmcp could not parse.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = common::text_format::one_line(&request.method, 60);
        let text = format!("unknown method '{method}', or wrong params");
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, text, None))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(index) = self.tools.iter().position(|tool| tool.name() == request.name) else {
            let name = common::text_format::one_line(&request.name, 60);
            return Err(ErrorData::invalid_params(format!("no tool '{name}': tools/list names them"), None));
        };
        let Ok(permit) = self.call_permits.clone().try_acquire_owned() else {
            let failure = Failure::unreachable(format!(
                "{MAX_CONCURRENT_CALLS} calls are being answered: call again later"
            ));
            return Ok(Reply::from_failure(&failure, |_| false).into_result().into());
        };
        let (tools, is_over, cancelled) = (self.tools.clone(), self.is_over.clone(), context.ct.clone());
        let call = CallContext::new(&context.meta, move || {
            cancelled.is_cancelled() || is_over.load(Ordering::Acquire)
        });
        let input = request.arguments.unwrap_or_default();
        let run = move || {
            let is_tool = |name: &str| tools.iter().any(|tool| tool.name() == name);
            let reply = tools[index]
                .run(input, &call)
                .unwrap_or_else(|failure| Reply::from_failure(&failure, is_tool));
            drop(permit);
            reply
        };
        let reply = task::spawn_blocking(run).await;
        let broken = |_| ErrorData::internal_error("internal error of the tool", None);
        reply.map_err(broken).map(|reply| reply.into_result().into())
    }
}

/// Serves `tools` until stdin ends.
///
/// # Errors
/// Returns an error if the server can't be started, or its client does not use MCP.
pub fn serve_stdio(instructions: &'static str, tools: Vec<Tool>) -> Result<(), Failure> {
    let broken = |e: io::Error| Failure::unreachable(format!("the MCP server can't be started: {e}"));
    // One thread for each call, and one for writing.
    let runtime =
        Builder::new_current_thread().enable_time().max_blocking_threads(MAX_CONCURRENT_CALLS + 1).build();
    let runtime = runtime.map_err(broken)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let lines = stdin_lines::spawn_reader(io::stdin(), is_over.clone()).map_err(broken)?;
    let outcome = runtime.block_on(async {
        let server = McpServer::new(instructions, tools, is_over);
        match serve_server(server, StdioTransport::new(lines, tokio::io::stdout())).await {
            Ok(running) => running.waiting().await.map(drop).map_err(|e| e.to_string()),
            // A client that disconnects before its first message is not an error.
            Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    });
    // Calls in progress are cancelled, because no client waits for them.
    runtime.shutdown_background();
    outcome.map_err(|e| Failure::unreachable(format!("the MCP client can't be served: {e}")))
}
