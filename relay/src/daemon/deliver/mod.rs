//! Ends go out: to the session that launched the job, and to people.
//!
//! ```text
//!  core ─ record of an end ─► pump ──► outbox/NAME.N.json (durable) ──► book: which ways are due
//!                              ▲                                          │ Run
//!                              │ taken │ failed │ refused                 ▼
//!                              └──────────────────────────── ways: codex │ desktop │ command │ webhook
//! ```
//!
//! A way is marked taken after it took the end, durably: each gets it at least once, and every try carries the same id, so
//! that a receiver can tell a second one. All of it runs on a thread of its own, so that no receiver is ever in the
//! way of events.
//!
//! * [`pump`]: the thread: takes ends, starts what is due, writes down what became of it. [`start`]: what it finds when
//!   it begins.
//! * [`book`]: which ways are due, when they are tried again, when they are given up: pure. [`entry`]: the ways of a
//!   new end: pure. [`backoff`]: between two tries: pure.
//! * [`ways`]: how each way is carried out. [`session`]: what is known of the session that launched the job.

mod backoff;
mod book;
mod entry;
mod pump;
mod session;
mod start;
mod ways;

pub(super) use pump::Deliveries;
