//! `platform/relay.toml`.
//!
//! ```text
//! read ──► raw (as it is written, each value with its position) ──► resolved (without options)
//!           └─ limits, notify, rules: checked against each other ┘
//! ```
//!
//! * [`resolved`]: the configuration for the rest of the program.
//! * [`read`]: the file, and the position of a mistake in it.
//! * [`raw`]: the file's form.
//! * [`serde_util`]: types shared by all parts of the form.
//! * [`limits`]: the `[limits]` table.
//! * [`notify`]: the `[notify]` table.
//! * [`rules`]: the `[[step]]` tables.
//! * [`resources`]: resource limits of the platform container.
//! * [`stall`]: validity of stall limits, for flags too.

mod limits;
mod notify;
mod raw;
mod read;
mod resolved;
mod resources;
mod rules;
mod serde_util;
pub mod stall;

#[cfg(test)]
pub use notify::Webhook;
pub use notify::{NotifyConfig, SecretPlace};
pub use read::FILE;
pub use resolved::{Config, PlatformConfig};
pub use resources::{Resources, cpus_text};
pub use serde_util::CODEX;
