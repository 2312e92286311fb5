//! Steps of a job, each with a kind, a number, a deadline and its processes.
//!
//! ```text
//!  Codex's events ──► tracker ──┐                       ┌──► events (began, ended, stalled, interrupted)
//!                               ├──► book (open steps) ─┤
//!  the process tree ──► join ───┘      ▲                └──► verdicts (fail, interrupt)
//!                                      └── deadlines
//! ```
//!
//! * [`rules`]: classification of command lines and processes. * [`open`]: an active step.
//! * [`book`]: the steps of the job and their deadlines. * [`tracker`]: steps derived from Codex's events.
//! * [`loops`]: detection of workers that repeat failing commands. * [`notices`]: deduplication of Codex's warnings.
//! * [`silence`]: evidence about a model that sends nothing.
//! * [`join`]: steps derived from processes. * [`meter`]: resource usage of processes. * [`stall`]: progress detection.
//! * [`evidence`]: a description of what the processes were doing. [`verdict`]: the reason why a step timed out.
//!
//! All modules are pure.

pub(crate) mod book;
mod evidence;
mod join;
mod loops;
mod meter;
mod notices;
mod open;
pub(crate) mod rules;
mod silence;
mod stall;
pub(crate) mod tracker;
mod verdict;
