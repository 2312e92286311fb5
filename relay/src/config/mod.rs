//! `platform/relay.toml`.
//!
//! ```text
//! text ──► raw (as it is written, each value with its place) ──► resolved (without options)
//!           └─ limits, rules: checked against each other ────────┘
//! ```
//!
//! * [`resolved`]: what everybody else sees, and reading it. * [`raw`]: the file's form.
//! * [`limits`]: `[limits]`. * [`notify`]: `[notify]`. * [`rules`]: `[[step]]`. * [`stall`]: which stall limits make sense, for flags too.

mod limits;
mod notify;
mod raw;
mod resolved;
mod rules;
pub mod stall;

#[cfg(test)]
pub use notify::Webhook;
pub use notify::{NotifyConfig, SecretPlace};
pub use resolved::{Config, FILE, PlatformConfig};
