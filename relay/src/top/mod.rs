//! `relay top`: every worker on one screen, live.
//!
//! ```text
//! keys ─ keys ─► Action ─┐                        ┌─► Effect ─► pump: orders (requests), screen, the end
//! files ─ feed ─► News ──┴─► model (pure) ────────┤
//! clock ─► now ──────────┘                        └─► draw (pure: model → frame)
//! ```
//!
//! * [`model`]: what is shown and what a key means for it. [`keys`]: keys → actions.
//! * [`feed`]: what the registry says: [`records`], and the [`tail`] of a job's log and events.
//! * [`draw`]: the frame; [`rows`]: its list; [`pane`]: one job. [`style`]: colour, or none.
//! * [`screen`]: the terminal, given back whatever happens. [`orders`]: what the keys ask of the relay.
//! * [`pump`]: the loop.

mod draw;
mod feed;
mod keys;
mod model;
mod orders;
mod pane;
mod pump;
mod records;
mod rows;
mod screen;
mod style;
mod tail;

pub use pump::{Setting, run};

#[cfg(test)]
mod draw_tests;
