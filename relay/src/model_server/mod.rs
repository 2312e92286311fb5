//! The model's servers: their addresses, their keys and what else requests to them have.
//!
//! * [`settings`]: the settings of a server. [`codex_settings`]: reads those of the user's own Codex from its files and
//!   the environment. [`anthropic_settings`]: reads those of the Messages API from the environment.
//! * [`secret`]: values that are never shown.

mod anthropic_settings;
mod codex_settings;
mod secret;
mod settings;

pub use secret::Secret;
pub use settings::{ModelApi, UpstreamSettings};
