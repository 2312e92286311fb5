//! The sandbox around everything that a job runs on a machine without a container: Codex's own, with a permission profile.
//!
//! ```text
//!  setup, check, shell job, git ──► codex sandbox ──► shim ──► the command
//!  Codex itself ──► codex exec ──► the same profile around each command of its model
//! ```
//!
//! * [`admission`]: what a job may bring along (pure). * [`place`]: the workspace, opened once. * [`repository`]: the git folders that belong to it. * [`caches`]: those of
//!   package managers. * [`profile`]: what may be written, and what can't be seen (pure). * [`covers`]: settings that are missing. * [`sandbox`]: a job's sandbox.
//!   [`ground`]: what all of them share. [`sockets`]: what in the machine starts programs for others ([`listeners`]). [`helpers`]: what a
//!   hidden Codex gives back. [`temporary`]: the folder for temporary files.
//! * [`cage`]: looks from the inside whether it holds. [`proof`]: tries it once.

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
