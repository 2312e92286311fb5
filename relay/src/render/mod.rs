//! What people and programs see: the only place that writes to stdout and stderr.
//!
//! ```text
//! record, view ──► status │ table │ queue │ event_text   (pure: text)  ──► output ──► stdout
//!                                                         failures, notes ─► output ──► stderr
//! ```
//!
//! * [`output`]: the two streams. * [`paint`]: colour, with meaning only. * [`times`]: clock times and spans.
//! * [`view`]: what is known beside a record. * [`status`]: one job. * [`table`]: several jobs. [`list`]: the same on a terminal.
//! * [`steps`]: a job's steps, sub-steps below their parents.
//! * [`explain`]: where a job's time went, and why it failed. [`history`]: the jobs it is linked to.
//!   [`rows`]: the form of these.
//! * [`health`]: how a job is and what to do about it, in one sentence. [`width`]: text in columns.
//! * [`doctor`]: what is there and what is not.
//! * [`notice`]: the end of a job, told to a session. [`delivery`]: to whom that could not be told.
//! * [`queue`]: why a job waits. * [`event_text`]: one event. * [`stream`]: pieces of a log.

pub mod delivery;
pub mod doctor;
pub mod event_text;
pub mod explain;
pub mod health;
pub mod history;
pub mod list;
pub mod notice;
pub mod output;
pub mod paint;
pub mod queue;
mod rows;
pub mod status;
pub mod steps;
pub mod stream;
pub mod table;
pub mod times;
pub mod view;
pub mod width;

pub use output::{Kept, Output};
pub use paint::{ColorMode, Paint};
pub use view::{Relay, View};

#[cfg(test)]
pub(crate) mod samples;
