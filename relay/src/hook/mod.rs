//! Hooks of a host agent (Codex, Claude Code): deliver completion notices to the session that calls them.
//!
//! ```text
//! stdin ─ call ─► decide ─┬► phase of the session ──► registry: sessions/ID.json
//!                         └► kind of answer: nothing │ context │ a reason to continue
//! outbox ─ owner of each notice ─► the session's notices and those without owner ─► claimed ─► answer ─► stdout
//! ```
//!
//! * [`call`]: the call of a hook. Its JSON is the same for Codex and Claude Code.
//! * [`decide`]: the decision about a call, the owner of a notice, and the JSON of the answer.

pub mod call;
pub mod decide;
