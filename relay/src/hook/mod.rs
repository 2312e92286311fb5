//! Hooks of a host agent (Codex, Claude Code): deliver completion notices to the session that calls them.
//!
//! ```text
//! stdin ─ call ─► plan ─┬► phase of the session ──────────────────► registry: sessions/ID.json
//!                       └► delivery: nothing │ context │ a reason to continue
//! outbox ─ whose ─► its own notices and those without owner ─► claimed ─ answer ─► stdout
//! ```
//!
//! * [`call`]: the hook's JSON, which is the same for Codex and Claude Code.
//! * [`decide`]: decisions for an event, the owner of a notice, and the JSON that is returned.

pub mod call;
pub mod decide;
