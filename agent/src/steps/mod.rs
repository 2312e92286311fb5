//! Steps: what a job is doing, each with its kind, its number, its clock and its processes.
//!
//! ```text
//!  Codex's events ──► tracker ──┐                       ┌──► events (began, ended, stalled, interrupted)
//!                               ├──► book (open steps) ─┤
//!  the process tree ──► join ───┘      ▲                └──► verdicts (fail, interrupt)
//!                                      └── clocks
//! ```
//!
//! * [`rules`]: which kind of work a command line or a process is. * [`open`]: a step that runs.
//! * [`book`]: the job's steps and their clocks. * [`tracker`]: steps out of Codex's events.
//! * [`loops`]: a worker that goes round in a circle. * [`notices`]: Codex's warnings, each once. * [`silence`]: what is known about a model that says nothing.
//! * [`join`]: steps out of processes. * [`meter`]: what processes use. * [`stall`]: whether that is progress.
//! * [`evidence`]: what they were doing, in words. [`verdict`]: why a step is out of time.
//!
//! All of it is pure.

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
