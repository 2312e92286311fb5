//! `relay top`: all workers on one screen, live.
//!
//! ```text
//! keys ─ keys ───► Action ──┐                        ┌─► Effect ─► event_loop: requests, screen, exit
//! files ─ loader ─► Update ─┴─► model (pure) ────────┤
//! clock ─► now ─────────────┘                        └─► draw (pure: model → frame)
//! ```
//!
//! * [`model`]: content of the screen and the effect of keys on it. [`keys`]: mapping of keys to actions.
//! * [`loader`]: data from the registry: [`records`], and the [`tail`] of a job's log and events.
//! * [`draw`]: the frame; [`rows`]: its list; [`detail`]: one job. [`style`]: styles of text, with or without color.
//! * [`screen`]: the terminal, restored in every case. [`event_loop`]: the event loop, and requests to the daemon.

mod detail;
mod draw;
mod event_loop;
mod keys;
mod loader;
mod model;
mod records;
mod rows;
mod screen;
mod style;
mod tail;

pub use event_loop::{Options, run};

#[cfg(test)]
mod draw_tests;
