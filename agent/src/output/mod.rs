//! Output of a job: the files that its commands put into the folder `$RELAY_OUTPUT`, kept with the job.
//!
//! ```text
//!  folder made ──► the job's commands write ──collector, in the sandbox──► archive ──stream──► relay ──► removed
//! ```
//!
//! If the agent is killed, the next one collects and sends what is in the folder. The folder is outside of the workspace.
//! Everything in it is untrusted: the collector runs like a command of the job, takes only regular files, follows no
//! link, and has limits.
//!
//! * [`collector`]: writes the archive, in a process of its own. [`job_output`]: sends the archive to the relay.

pub(crate) mod collector;
pub(crate) mod job_output;
