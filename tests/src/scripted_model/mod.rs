//! A scripted model server on loopback for the real Codex.
//!
//! ```text
//! POST /oauth/token ──► login
//! POST /v1/responses ─► request  (which script, which calls have outputs)
//!                         │
//!           script ─────► next   (the turn to play: an answer, a poll, a fault, the end)
//!                         │
//!                       answer ─► sse ─► text/event-stream
//! ```
//!
//! * [`script`]: the scripts and their JSON format.
//! * [`request`]: the relevant part of a request; [`call_id`]: ids of tool calls, which contain the call's position in
//!   the script.
//! * [`next`]: choice of the next response, a pure function; [`answer`] and [`sse`]: wire format of the response.
//! * [`login`]: the token endpoint of a `ChatGPT` login.
//! * [`server`]: the HTTP server; [`home`]: a Codex configuration that uses the server; [`cli`]: the command line of
//!   the program `scripted-model`.
//!
//! # Position in a script
//!
//! The newest user message that contains `[script:NAME]` selects the script; without one, `default` plays. The position
//! in the script is derived from the request alone: the id of every call contains its turn, and Codex returns all ids
//! with their outputs. Therefore a resumed thread continues at its position, several workers may share one server, and
//! the server may be restarted between requests.
//!
//! # Commands that outlive their yield time
//!
//! `exec_command` stops waiting after `yield_time_ms` (at most 30 s) and answers `Process running with session ID N`.
//! The server then calls `write_stdin {session_id: N, chars: "", yield_time_ms: 300000}`, which waits without writing,
//! until the newest output of each call of the turn no longer contains that answer. A command marked `background` is
//! not polled.

pub mod answer;
pub mod call_id;
pub mod cli;
pub mod home;
pub mod login;
pub mod next;
pub mod request;
mod respond;
pub mod script;
pub mod server;
pub mod sse;

pub use home::write_codex_home;
pub use script::{Script, Scripts};
pub use server::{ReceivedRequest, ScriptedModel};
