//! Git repositories: the one that a launch starts from, and the one that relay serves to a job's agent.
//!
//! ```text
//! caller's repository ─ source ─ snapshot ─► NAME.N.pack ─┐           (relay launch)
//!        │ objects                                        ▼
//!        └──────────────── alternates ─────────► job repository ◄──streams──► the job's clone
//!                                                         │
//! caller's repository ◄─ branch ─ publish ◄───────────────┘           (the daemon, at the end)
//! caller's work tree  ◄─ apply, merge, discard                        (relay apply, …)
//! ```
//!
//! * [`command`]: the only file that starts git. [`error`]: problems, each in one line.
//! * [`source`]: the caller's repository, found and checked. [`config`]: the settings of it that are used.
//! * [`scratch`]: a repository of relay's own, through which the caller's objects and files are read, so that no
//!   configuration of the caller's repository takes effect.
//! * [`snapshot`]: the caller's uncommitted files as a commit. [`base`]: the commit that a worker starts from.
//! * [`job_repository`]: the repository of a job, and the two services on it.
//! * [`publish`]: the result as a branch of the caller's repository. [`change`]: its size. [`content`]: what to know
//!   about its files.
//! * [`diff`]: a result as text. [`digest`]: its digest.
//! * [`apply`], [`merge`], [`discard`]: the three things that can be done with a result.
//!
//! Only the person who runs relay is trusted here, neither the caller's repository, in which a worker may have worked,
//! nor what a worker pushed. Both are read as data: no hook, filter, monitor or other program that they name is run.

pub mod apply;
pub mod base;
pub mod change;
mod command;
mod config;
mod content;
pub mod diff;
pub mod digest;
pub mod discard;
mod error;
pub mod job_repository;
pub mod merge;
pub mod publish;
mod scratch;
mod snapshot;
pub mod source;

pub use error::GitError;

#[cfg(test)]
mod content_tests;
#[cfg(test)]
mod job_repository_tests;
#[cfg(test)]
mod result_tests;
#[cfg(test)]
mod start_tests;
#[cfg(test)]
mod test_repository;
#[cfg(test)]
mod trust_tests;
#[cfg(test)]
mod unusual_tests;
