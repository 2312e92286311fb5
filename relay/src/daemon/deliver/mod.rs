//! Delivers completion notices: to the session that launched the job, and to people.
//!
//! ```text
//!  core ─ ended job ─► delivery_loop ──► outbox/NAME.N.json (durable) ──► schedule: which channels are due
//!                              ▲                                            │ Run
//!                              │ taken │ failed │ refused                   ▼
//!                              └────────────────────────── channels: codex │ desktop │ command │ webhook
//! ```
//!
//! After a receiver has accepted the notification, its channel is durably marked as taken. Each receiver gets the
//! notification at least once, and every attempt has the same id, so that a receiver can deduplicate. Deliveries run on
//! a separate thread, so that no receiver delays events.
//!
//! * [`delivery_loop`]: the thread: accepts ended jobs, starts due deliveries, records their outcome. [`resume`]:
//!   resumes the outbox at startup.
//! * [`schedule`]: the channels that are due, retried or given up (pure). [`plan`]: the channels of a new notification
//!   (pure).
//! * [`channels`]: the channels. [`session`]: state of the session that launched the job.

mod channels;
mod delivery_loop;
mod plan;
mod resume;
mod schedule;
mod session;

pub(super) use delivery_loop::DeliveryThread;
