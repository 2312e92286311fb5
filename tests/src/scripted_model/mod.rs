//! A model server on loopback that the real Codex talks to, and that says what a script says.
//!
//! ```text
//! POST /v1/responses ─► request  (which script, which calls were answered)
//!                         │
//!           script ─────► next   (the turn to play: an answer, a poll, a fault, the end)
//!                         │
//!                       answer ─► sse ─► text/event-stream
//! ```
//!
//! * [`script`]: the scripts and how they are written down in JSON.
//! * [`request`]: what is read out of a request; [`call_id`]: the ids that carry the position in the script.
//! * [`next`]: the pure decision; [`answer`] and [`sse`]: the wire format of what was decided.
//! * [`server`] and its handlers: the thin pump around them; [`home`]: the Codex configuration that leads to it; [`cli`]: the program.
//!
//! # Where a script stands
//!
//! The newest user message that holds `[script:NAME]` chooses the script; without one, `default` plays. The place
//! in the script is read from the request alone: every call that is handed out has its turn in its id, and Codex
//! sends all ids back with their outputs. So a resumed thread goes on where it was, several workers may share one
//! server, and the server may be restarted under them.
//!
//! # Commands that outlive their yield time
//!
//! `exec_command` gives up waiting after `yield_time_ms` (at most 30 s) and answers `Process running with session
//! ID N`. The server then calls `write_stdin {session_id: N, chars: "", yield_time_ms: 300000}`, which waits without
//! writing, until no output of the turn says so any more. A command marked `background` is not polled.

pub mod answer;
pub mod call_id;
pub mod cli;
pub mod home;
pub mod next;
pub mod request;
mod respond;
pub mod script;
pub mod server;
pub mod sse;

pub use home::codex_home;
pub use script::{Script, Scripts};
pub use server::{ScriptedModel, Seen};
