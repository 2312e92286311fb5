//! An MCP server on stdin and stdout. It runs the tools that [`serve_stdio()`] gets, and sends replies to the client.
//!
//! ```text
//! client ─ stdin ─► stdin_lines (bounded) ─► frame (message │ refusal) ─► server (rmcp) ─► tool ─ call ─► reply
//!        ◄─ stdout ───────────────────────── transport ◄────────────────────────────────────────────────────┘
//! ```
//!
//! * [`stdin_lines`]: lines of stdin. [`frame`]: parsing of a line into a message or an error. [`transport`]: stdin and
//!   stdout as a transport of the crate rmcp.
//! * [`server`]: listing and calling of tools, each call on a thread of its own. [`serve_stdio()`]: runs the
//!   server until stdin ends.
//! * [`tool`]: a tool and its schema. [`request_context`]: the caller and the cancellation of a call. [`reply`]: the
//!   answer to a call.

mod frame;
pub mod reply;
pub mod request_context;
mod server;
mod stdin_lines;
pub mod tool;
mod transport;

pub use reply::Reply;
pub use request_context::CallContext;
pub use server::serve_stdio;
pub use tool::{Tool, ToolEffect};
