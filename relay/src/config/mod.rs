//! `platform/relay.toml`.
//!
//! ```text
//! text ──► raw (as it is written, each value with its place) ──► resolved (without options)
//!           └─ limits, rules: checked against each other ────────┘
//! ```
//!
//! * [`resolved`]: what everybody else sees, and reading it. * [`raw`]: the file's form.
//! * [`limits`]: `[limits]`. * [`rules`]: `[[step]]`. * [`stall`]: which stall limits make sense, for flags too.

mod limits;
mod raw;
mod resolved;
mod rules;
pub mod stall;

pub use resolved::{Config, PlatformConfig};
