//! Sandbox around everything that a job runs on a machine without a container: Codex's own sandbox, with a permission
//! profile.
//!
//! ```text
//!  setup, check, shell job, git ──► codex sandbox ──► shim ──► the command
//!  Codex itself ──► codex exec ──► the same profile around each command of its model
//! ```
//!
//! * [`admission`]: checks of a job's spec (pure).
//! * [`repository`]: the git folders that belong to a workspace.
//! * [`caches`]: caches of package managers.
//! * [`placeholders`]: placeholders for missing settings.
//! * [`sandbox`]: a job's sandbox.
//! * [`shared_settings`]: the settings that all sandboxes share.
//! * [`sockets`]: sockets of services that start programs for their clients ([`listeners`] finds sockets).
//! * [`codex_programs`]: Codex's programs that stay visible in hidden folders.
//! * [`temp_dir`]: the folder for temporary files.
//! * [`self_test`]: a test that the sandbox works on this machine.

pub(crate) mod admission;
pub(crate) mod caches;
pub(crate) mod codex_programs;
mod listeners;
mod placeholders;
pub(crate) mod repository;
pub(crate) mod sandbox;
pub(crate) mod self_test;
pub(crate) mod shared_settings;
mod sockets;
pub(crate) mod temp_dir;
