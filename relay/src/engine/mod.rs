//! Engines: what a platform runs in, which is a container or this machine.
//!
//! * [`local`]: this machine.
//! * [`container`]: `docker` or `podman`, used through their commands, so that contexts and `DOCKER_HOST` apply.
//! * [`container_rights`]: arguments that decide what a container may do.
//! * [`engine_facts`]: facts that decide how an engine creates containers. [`engine_info`]: those about the engine.
//! * [`existing_container`]: the platform's container as it is, and the decision to keep it.
//! * [`job_box`]: the container of a single job.
//! * [`box_network`]: networks of containers, and containers of single jobs without one.
//! * [`image`]: build of the platform image.
//! * [`owned_archive`]: archives of files that a worker gets back.
//! * [`syscall_filter`]: filter of system calls for containers of podman.
//! * [`workspace`]: mapping of host paths to the worker's paths.
//! * [`inspect`]: query of the state of a container from its engine.
//! * [`events`]: parser of the container events that an engine reports (pure).
//! * [`codex_home`]: Codex's home in a container. [`codex_config`]: its `config.toml` (pure).
//! * [`command`]: runner of the engines' programs, with time limits.
//! * [`agent_config`]: the agent's configuration, passed to the agent through stdin.

pub mod agent_config;
pub mod box_network;
mod codex_config;
pub mod codex_home;
pub mod command;
pub mod container;
mod container_rights;
pub mod engine_facts;
pub mod engine_info;
pub mod events;
mod existing_container;
pub mod image;
mod inspect;
pub mod job_box;
pub mod local;
mod owned_archive;
pub mod syscall_filter;
pub mod workspace;
