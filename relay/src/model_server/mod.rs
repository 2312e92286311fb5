//! The model's servers: their addresses, their keys and what else requests to them have.
//!
//! * [`settings`]: the settings of a server. [`codex_settings`]: reads those of the user's own Codex from its files and
//!   the environment. [`anthropic_settings`]: reads those of the Messages API from the environment.
//! * [`chatgpt_login`]: a login with an account of `ChatGPT`.

mod anthropic_settings;
mod chatgpt_login;
mod codex_settings;
mod settings;

pub use crate::secret::Secret;
pub use chatgpt_login::{ChatGptLogin, RefreshedTokens};
pub use settings::{LoginSettings, ModelApi, UpstreamSettings};
