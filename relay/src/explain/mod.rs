//! Analysis of a job's duration or failure, based on its event log. Pure.
//!
//! ```text
//! record, events, now ──► time_breakdown (of every millisecond) ─┐
//!                    └──► cause and signs ───────────────────────┴─► Explanation ──► advice (a fixed table)
//! ```
//!
//! * [`time_breakdown`]: breakdown of the time.
//! * [`analysis`]: the explanation.
//! * [`advice`]: the advice.

pub mod advice;
pub mod analysis;
pub mod time_breakdown;

pub use analysis::{Explanation, Slow, explain};
