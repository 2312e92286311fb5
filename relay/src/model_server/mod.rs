//! The model's server of the user's own Codex: its address, its key and what else requests to it have.
//!
//! * [`settings`]: the settings of the server. [`codex_settings`]: reads them from Codex's files and the environment.
//! * [`chatgpt_login`]: a login with an account of `ChatGPT`. [`secret`]: values that are never shown.

mod chatgpt_login;
mod codex_settings;
mod secret;
mod settings;

pub use chatgpt_login::{ChatGptLogin, RefreshedTokens};
pub use secret::Secret;
pub use settings::{LoginSettings, UpstreamSettings};
