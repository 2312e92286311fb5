//! Steps: what a job is doing, each with its kind, its number and its limit.
//!
//! * [`rules`]: which kind of work a command line is. * [`book`]: the job's steps and their limits.
//! * [`tracker`]: steps out of Codex's events. * [`notices`]: its warnings, each once. * [`silence`]: what is known
//!   about a model that says nothing.
//!
//! All of it is pure.

pub(crate) mod book;
mod notices;
pub(crate) mod rules;
mod silence;
pub(crate) mod tracker;
