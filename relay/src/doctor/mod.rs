//! `relay doctor`: checks everything that relay needs, and gives advice about problems.
//!
//! ```text
//! context (gathered once) ─► checks, concurrently ─► findings, in a fixed order
//!                                   └ each: facts (files, programs with a time limit) ─► assessment (pure)
//! ```
//!
//! * [`finding`]: result of a check.
//! * [`context`]: context shared by all checks.
//! * [`probe`]: running programs that may hang.
//! * [`mod@run`]: all checks at once, within a time limit.
//! * [`text`]: output of `relay doctor`.
//! * The checks: [`settings`], [`storage`] (registry and disk), [`relay`] (daemon and queue), [`engine`] (and its
//!   image), [`agent`], [`machine`], [`codex`], [`credentials`], [`clock`], [`rules`], [`shell`], [`inotify`], [`linger`],
//!   [`deliveries`], [`network`], [`trust`] (approval, workspaces, limits, sandbox).

mod agent;
mod clock;
mod codex;
pub mod context;
mod credentials;
mod deliveries;
mod engine;
pub mod finding;
mod inotify;
mod linger;
mod machine;
mod network;
mod probe;
mod refused_files;
mod relay;
mod rules;
mod run;
mod settings;
mod shell;
mod storage;
pub mod text;
mod trust;

pub use context::CheckContext;
pub use finding::{Finding, State};
pub use run::run_checks;
