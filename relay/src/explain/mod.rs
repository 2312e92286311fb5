//! Why a job took so long or failed, out of its event log. Pure.
//!
//! ```text
//! record, events, now ──► time (a ledger of every millisecond) ─┐
//!                    └──► cause and signs ──────────────────────┴─► Explanation ──► advice (a fixed table)
//! ```
//!
//! * [`time`]: where the time went. * [`facts`]: all that is explained. * [`advice`]: what to try.

pub mod advice;
pub mod facts;
pub mod time;

pub use facts::{Explanation, Slow, explain};
