//! `platform/relay.toml`.
//!
//! ```text
//! read ──► raw (as it is written, each value with its place) ──► resolved (without options)
//!           └─ limits, notify, rules: checked against each other ┘
//! ```
//!
//! * [`resolved`]: what everybody else sees. * [`read`]: the file, and where a mistake in it is.
//! * [`raw`]: the file's form. * [`form`]: what all parts of the form share.
//! * [`limits`]: `[limits]`. * [`notify`]: `[notify]`. * [`rules`]: `[[step]]`.
//! * [`resources`]: what the platform container may use.
//! * [`stall`]: which stall limits make sense, for flags too.

mod form;
mod limits;
mod notify;
mod raw;
mod read;
mod resolved;
mod resources;
mod rules;
pub mod stall;

#[cfg(test)]
pub use notify::Webhook;
pub use notify::{NotifyConfig, SecretPlace};
pub use read::{CODEX, FILE};
pub use resolved::{Config, PlatformConfig};
pub use resources::{Resources, cpus_text};
