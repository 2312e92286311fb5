//! Sandbox around everything that a job runs on a machine without a container: Codex's own, with a permission
//! profile.
//!
//! ```text
//!  setup, check, shell job, git ──► codex sandbox ──► shim ──► the command
//!  Codex itself ──► codex exec ──► the same profile around each command of its model
//! ```
//!
//! * [`admission`]: checks on a job's spec (pure).
//! * [`place`]: the workspace, opened once.
//! * [`repository`]: the git folders that belong to it.
//! * [`caches`]: those of package managers.
//! * [`profile`]: writable and hidden paths (pure).
//! * [`covers`]: placeholders for missing settings.
//! * [`sandbox`]: a job's sandbox.
//! * [`ground`]: the settings that all sandboxes share.
//! * [`sockets`]: services of the machine that start programs for their clients ([`listeners`]).
//! * [`helpers`]: the visible parts of a hidden Codex.
//! * [`temporary`]: the folder for temporary files.
//! * [`cage`]: verification from the inside.
//! * [`proof`]: a trial of the sandbox.

pub(crate) mod admission;
pub(crate) mod caches;
pub(crate) mod cage;
mod covers;
pub(crate) mod ground;
pub(crate) mod helpers;
mod listeners;
pub(crate) mod place;
pub(crate) mod profile;
pub(crate) mod proof;
pub(crate) mod repository;
pub(crate) mod sandbox;
mod sockets;
pub(crate) mod temporary;
