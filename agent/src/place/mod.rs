//! A job's own place: a clone of the caller's repository, made for one run of a job.
//!
//! ```text
//!  folder made ──fetch, checkout──► the commands of the job work in it ──commit, push──► removed
//!                                      └── new commits: pushed in the background ──┘
//! ```
//!
//! Git runs as the worker does: as its user or in its sandbox. It has no network: its bytes go through a stream to the
//! relay, which serves a repository of this job alone.
//!
//! * [`folder`]: the folder of a place. * [`git`]: the commands of git; [`script`]: their script. * [`cache`]: objects of earlier jobs.
//! * [`checkpoints`]: pushes in the background.

pub(crate) mod cache;
pub(crate) mod checkpoints;
pub(crate) mod folder;
pub(crate) mod git;
mod script;
