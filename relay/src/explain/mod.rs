//! Analysis of a job's duration or failure, based on its event log. Pure.
//!
//! ```text
//! record, events, now ──► time_breakdown (of every millisecond) ─┐
//!                    └──► cause and signs ───────────────────────┴─► Explanation ──► advice (a fixed table)
//! ```
//!
//! * [`time_breakdown`]: breakdown of the job's time.
//! * [`explanation`]: data of an explanation. [`analysis`]: its computation from a record and an event log.
//! * [`advice`]: what to try after a failure.
//! * [`text`]: text output of `relay explain`.

pub mod advice;
pub mod analysis;
pub mod explanation;
pub mod text;
pub mod time_breakdown;

pub use analysis::explain;
pub use explanation::{Explanation, SlowStep};
