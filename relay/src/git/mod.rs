//! Git repositories: the one that a launch starts from, and the one that relay serves to a job's agent.
//!
//! ```text
//! user's repository ─── source ─ snapshot ─► NAME.N.pack ─┐           (relay launch)
//!        │ objects                                        ▼
//!        └──────────────── alternates ─────────► job repository ◄──streams──► the job's clone
//!                                                         │
//! user's repository ◄─── branch ─ publish ◄───────────────┘           (the daemon, at the end)
//! user's work tree  ◄─── apply, merge, discard                        (relay apply, …)
//! ```
//!
//! * [`command`]: the only file that starts git. [`error`]: errors of git, each in one line.
//! * [`source`]: the user's repository, found and checked. [`config`]: the git settings that relay adopts.
//! * [`scratch`]: a repository of relay's own, through which the user's objects and files are read, so that no
//!   configuration of the user's repository takes effect.
//! * [`snapshot`]: the user's uncommitted files as a commit. [`base`]: the commit that a worker starts from.
//! * [`job_repository`]: the repository of a job, and its services for the agent: fetch and push.
//! * [`publish`]: the result as a branch of the user's repository. [`change`]: the size of a change. [`content`]:
//!   notes about the files of a result.
//! * [`diff`]: a result as text. [`digest`]: the digest of a result.
//! * [`apply`], [`merge`], [`discard`]: the three ways to handle a result.
//!
//! Only the person who runs relay (the user) is trusted here. The user's repository, in which a worker may have worked,
//! and the commits that a worker pushed are read as data: no hook, filter or other program that they name is run.

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
