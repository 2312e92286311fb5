//! Delivers completion notices: to the session that launched the job, and to people.
//!
//! ```text
//!  core ─ ended job ─► delivery_loop ──► outbox/NAME.N.json (durable) ──► schedule: which channels are due
//!                              ▲                                            │ Run
//!                              │ taken │ failed │ refused                   ▼
//!                              └────────────────────────── channels: codex │ desktop │ command │ webhook
//! ```
//!
//! A channel is marked as taken durably after its receiver has taken the notification. Each receiver gets it at least
//! once, and every attempt has the same id, so that a receiver can deduplicate. All of it runs on a thread of its own,
//! so that no receiver ever delays events.
//!
//! * [`delivery_loop`]: the thread: accepts ended jobs, starts due deliveries, records their outcome. [`resume`]:
//!   resumes the outbox at startup.
//! * [`schedule`]: the schedule: which channels are due, retried or given up: pure. [`plan`]: the channels of a new
//!   notification: pure.
//! * [`channels`]: the channels. [`session`]: state of the session that launched the job.

mod channels;
mod delivery_loop;
mod plan;
mod resume;
mod schedule;
mod session;

pub(super) use delivery_loop::Deliveries;
