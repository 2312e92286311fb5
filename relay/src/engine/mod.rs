//! Engines: the hosts of a platform.
//!
//! * [`kind`]: their names.
//! * [`local`]: this machine.
//! * [`container`]: `docker` or `podman`, used through their commands, so that contexts and `DOCKER_HOST` apply.
//! * [`image`]: the platform image.
//! * [`workspace`]: host path → worker's path.
//! * [`container_state`]: state of a container.
//! * [`events`]: events reported by its engine (pure).
//! * [`codex_home`]: Codex's home in a container.
//! * [`command`]: running their programs.
//! * [`versions`]: versions pinned in `docker/versions`.
//! * [`agent_config`]: the agent's configuration, passed through a channel that only root can read.

pub mod agent_config;
mod codex_home;
pub mod command;
pub mod container;
pub mod container_state;
pub mod events;
pub mod image;
mod kind;
pub mod local;
pub mod versions;
pub mod workspace;

pub use kind::EngineKind;
