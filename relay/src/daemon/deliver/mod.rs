//! Delivers completion notices: to the session that launched the job, and to people.
//!
//! ```text
//!  core ─ ended job ─► delivery_loop ──► outbox/NAME.N.json (durable) ──► schedule: the channels that are due
//!                              ▲                                            │ start
//!                              │ accepted │ failed │ refused                ▼
//!                              └────────────────────────── channels: codex │ desktop │ command │ webhook
//! ```
//!
//! After a receiver has accepted the notification, its channel is durably marked as accepted. Each receiver gets the
//! notification at least once, and every attempt has the same id, so that a receiver can deduplicate. Deliveries run on
//! a separate thread, so that no receiver delays events.
//!
//! * [`delivery_loop`]: the thread, which accepts ended jobs, starts due deliveries and records their outcomes.
//!   [`resume`]: finds the unfinished deliveries of an earlier daemon in the outbox.
//! * [`schedule`]: decides which deliveries are due (pure). [`plan`]: chooses a notification's channels (pure).
//! * [`channels`]: delivers through each channel. [`session`]: reads the state of the session that launched the job.

mod channels;
mod delivery_loop;
mod plan;
mod resume;
mod schedule;
mod session;

pub(super) use delivery_loop::DeliveryThread;
