//! What a hook of a host agent (Codex, Claude Code) does: hands the ends of workers to the session that calls it.
//!
//! ```text
//! stdin ─ call ─► plan ─┬► what the session does now ──────► registry: sessions/ID.json
//!                       └► what it is given: nothing │ context │ a reason to go on
//! outbox ─ whose ─► its ends and nobody's ─► claimed ─ answer ─► stdout
//! ```
//!
//! * [`call`]: the hook's JSON. Codex and Claude Code agree on it.
//! * [`decide`]: what follows from an event, and whom an end belongs to.
//! * [`answer`]: the JSON that goes back.

pub mod answer;
pub mod call;
pub mod decide;
