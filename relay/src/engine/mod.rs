//! Engines: what a platform runs on.
//!
//! * [`kind`]: their names. * [`local`]: this machine. * [`container`]: `docker` or `podman`, through their commands,
//!   so that contexts and `DOCKER_HOST` hold. * [`image`]: the platform image. * [`workspace`]: host path → worker's path.
//! * [`vitals`]: how a container is. [`events`]: what its engine tells of it (pure).
//! * [`codex_home`]: Codex's home in a container. [`command`]: running their programs. [`pinned`]: versions.
//! * [`agent_config`]: what the agent is told through a channel that only root can read.

pub mod agent_config;
mod codex_home;
pub mod command;
pub mod container;
pub mod events;
pub mod image;
mod kind;
pub mod local;
pub mod pinned;
pub mod vitals;
pub mod workspace;

pub use kind::EngineKind;
