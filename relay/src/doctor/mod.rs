//! `relay doctor`: whether everything is there that the product needs, and what to do where it is not.
//!
//! ```text
//! scene (what is known at once) ─► checks, side by side ─► findings, in a fixed order
//!                                   └ each: facts (files, programs with a limit) ─► judge (pure)
//! ```
//!
//! * [`finding`]: what a check says. * [`scene`]: what all checks know. * [`ask`]: programs that may hang.
//! * [`mod@run`]: all checks at once, within a limit.
//! * The checks: [`settings`], [`place`] (registry and disk), [`relay`] (daemon and queue), [`engine`] (and its image),
//!   [`agent`], [`codex`], [`credentials`], [`clock`], [`rules`], [`shell`], [`inotify`], [`linger`], [`deliveries`], [`trust`]
//!   (approval, workspaces, limits, sandbox).

mod agent;
mod ask;
mod clock;
mod codex;
mod credentials;
mod deliveries;
mod engine;
pub mod finding;
mod inotify;
mod linger;
mod place;
mod refused_files;
mod relay;
mod rules;
mod run;
pub mod scene;
mod settings;
mod shell;
mod trust;
mod version;

pub use finding::{Finding, State};
pub use run::run;
pub use scene::Scene;
