//! A job's own place: a clone of the caller's repository, made for one run of a job.
//!
//! ```text
//!  folder made ──fetch, checkout──► the commands of the job work in it ──commit, push──► removed, or kept for its thread
//!                                      └── new commits: pushed in the background ──┘
//! ```
//!
//! Git runs like a command of the job: as the worker's user or in the sandbox. Git does not use the network: its bytes
//! go through a stream to the relay, which serves only the repository of this job.
//!
//! * [`folder`]: the folders of a job. [`cache`]: git objects of earlier jobs. [`prepared`]: a clone made in advance
//!   for the next job on the repository.
//! * [`git`]: the commands of git; [`script`]: their script. [`checkpoints`]: pushes in the background.

pub(crate) mod cache;
pub(crate) mod checkpoints;
pub(crate) mod folder;
pub(crate) mod git;
pub(crate) mod prepared;
mod script;
