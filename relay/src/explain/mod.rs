//! Analysis of a job's duration or failure, based on its event log. Pure.
//!
//! ```text
//! record, events, now ──► time (a ledger of every millisecond) ─┐
//!                    └──► cause and signs ──────────────────────┴─► Explanation ──► advice (a fixed table)
//! ```
//!
//! * [`time`]: breakdown of the time.
//! * [`facts`]: the explanation.
//! * [`advice`]: the advice.

pub mod advice;
pub mod facts;
pub mod time;

pub use facts::{Explanation, Slow, explain};
