//! Engines: the hosts of a platform.
//!
//! * [`local`]: this machine.
//! * [`container`]: `docker` or `podman`, used through their commands, so that contexts and `DOCKER_HOST` apply.
//! * [`image`]: the platform image.
//! * [`workspace`]: mapping of host paths to the worker's paths.
//! * [`inspect`]: state of a container, reported by its engine.
//! * [`events`]: events of a container, reported by its engine (pure).
//! * [`codex_home`]: Codex's home in a container.
//! * [`command`]: runs the engines' programs.
//! * [`agent_config`]: the agent's configuration, passed through a channel that only root can read.

pub mod agent_config;
mod codex_home;
pub mod command;
pub mod container;
pub mod events;
pub mod image;
mod inspect;
pub mod local;
pub mod workspace;
