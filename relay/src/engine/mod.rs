//! Engines: what a platform runs on.
//!
//! * [`kind`]: their names. * [`local`]: this machine. * [`container`]: `docker` or `podman`, through their commands,
//!   so that contexts and `DOCKER_HOST` hold. * [`image`]: the platform image. * [`workspace`]: host path → worker's path.
//! * [`agent_config`]: what the agent is told through a channel that only root can read.

pub mod agent_config;
pub mod container;
pub mod image;
mod kind;
pub mod local;
pub mod workspace;

pub use kind::EngineKind;
