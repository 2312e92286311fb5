//! Steps: what a job is doing, each with its kind, its number and its limit.
//!
//! * [`rules`]: what a command line or a process is. * [`book`]: the job's steps and their limits.
//! * [`tracker`]: steps out of Codex's events. All of it is pure.

pub(crate) mod book;
pub(crate) mod rules;
pub(crate) mod tracker;
