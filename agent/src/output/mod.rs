//! Output of a job: the files that its commands put into the folder `$RELAY_OUTPUT`, kept with the job.
//!
//! ```text
//!  folder made ──► the commands of the job write ──collector, confined──► archive ──stream──► relay ──► removed
//! ```
//!
//! The folder is outside of the workspace. Everything in it is untrusted: the collector runs as the worker does, takes
//! regular files alone, follows no link, and has limits.
//!
//! * [`collector`]: writes the archive; a process of its own. * [`job_output`]: sends it to the relay.

pub(crate) mod collector;
pub(crate) mod job_output;
