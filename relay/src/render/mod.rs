//! Output for people and programs: the only place that writes to stdout and stderr.
//!
//! ```text
//! record, view ──► status │ jobs_plain │ queue │ event_text   (pure: text) ──► output ──► stdout
//!                                                             failures, notes ─► output ──► stderr
//! ```
//!
//! * [`output`]: the two streams.
//! * [`color`]: color, used only for meaning.
//! * [`view`]: context for the display of a record.
//! * [`status`]: text about one job.
//! * [`jobs_plain`]: several jobs in a pipe or file.
//! * [`jobs_tty`]: several jobs on a terminal.
//! * [`steps`]: texts about a job's steps, with sub-steps below their parents.
//! * [`history`]: the job that a job follows, and the jobs that follow it.
//! * [`labeled_rows`]: rows with labels, which describe one job.
//! * [`health`]: health of a job, with advice, in one sentence.
//! * [`width`]: text in columns. [`table`]: rows in columns.
//! * [`hold_text`]: the hold of a job.
//! * [`delivery`]: failed deliveries of a notice.
//! * [`queue`]: reason why a job is queued.
//! * [`event_text`]: text of one event.
//! * [`stream`]: sanitizer for logs.

pub mod color;
pub mod delivery;
pub mod event_text;
pub mod health;
pub mod history;
pub mod hold_text;
pub mod jobs_plain;
pub mod jobs_tty;
pub mod labeled_rows;
pub mod output;
pub mod queue;
pub mod status;
pub mod steps;
pub mod stream;
pub mod table;
pub mod view;
pub mod width;

pub use color::{ColorMode, Paint};
pub use output::{CapturedOutput, CommandOutput};
pub use view::{RelayState, View};

#[cfg(test)]
pub(crate) mod samples;
