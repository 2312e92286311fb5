//! Disk space that a job uses in its own container, and the limit for it. Engines can limit the writable layer of a
//! container only on few file systems, so the agent measures it.
//!
//! ```text
//!  measure, a thread ──► bytes in use ──► supervisor: over the limit? ends the job
//! ```
//!
//! * [`measure`]: the space that files of some folders take.
//! * [`watch`]: measures again and again while a job runs.
//!
//! A workspace that is mounted into the container belongs to the user's own disk and is not counted. Files that were
//! deleted and are still open are not seen.

mod measure;
mod watch;

pub(crate) use watch::{DiskExceeded, DiskWatch, measured_folders};
