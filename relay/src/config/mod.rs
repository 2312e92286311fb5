//! Configuration of a project, from `platform/relay.toml`.
//!
//! ```text
//! read ──► raw (as it is written, each value with its position) ──► resolved (with the defaults)
//!           └─ limits, notify, rules: checked against each other ┘
//! ```
//!
//! * [`resolved`]: the configuration for the rest of the program.
//! * [`read`]: reading of the file, and the line of an error.
//! * [`raw`]: the file as it is parsed.
//! * [`serde_util`]: types shared by all tables.
//! * [`limits`]: the `[limits]` table.
//! * [`notify`]: the `[notify]` table.
//! * [`prices`]: the `[prices]` table. [`budget`]: the `[budget]` table.
//! * [`rules`]: the `[[step]]` tables.
//! * [`resources`]: resource limits of the platform container.
//! * [`stall`]: checks of stall limits, also of those from flags.

mod budget;
mod limits;
mod notify;
pub mod prices;
mod raw;
mod read;
mod resolved;
mod resources;
mod rules;
mod serde_util;
pub mod stall;

#[cfg(test)]
pub use notify::Webhook;
pub use notify::{NotifyConfig, SecretSource};
pub use read::CONFIG_PATH;
pub use resolved::{Config, PlatformConfig, WorkerCodexConfig};
pub use resources::{ResourceLimits, format_cpus};
pub use serde_util::DEFAULT_CODEX_PROGRAM;
