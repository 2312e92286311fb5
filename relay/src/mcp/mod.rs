//! An MCP server on stdin and stdout: what it offers is given to it, what it says it hands back.
//!
//! ```text
//! client ─ stdin ─► door (lines, bounded) ─► frame (message │ refusal) ─► server (rmcp) ─► tool ─ call ─► reply
//!        ◄─ stdout ─────────────────────────── pipes ◄──────────────────────────────────────────────────────┘
//! ```
//!
//! * [`door`]: lines of stdin. [`frame`]: a line → a message, or why it is none. [`pipes`]: both as rmcp's transport.
//! * [`server`]: what is listed and called, each call on a thread of its own. [`serve()`]: from the start to the end of stdin.
//! * [`tool`]: a tool and its schema. [`call`]: who calls, and whether an answer is still wanted. [`reply`]: the answer.

pub mod call;
mod door;
mod frame;
mod pipes;
pub mod reply;
pub mod serve;
mod server;
pub mod tool;

pub use call::Call;
pub use reply::Reply;
pub use serve::serve;
pub use tool::{Effect, Tool};
