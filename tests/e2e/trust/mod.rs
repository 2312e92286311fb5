//! Trust boundaries: what workers, sessions and other users write is data and gives them no more rights.

mod approval;
mod authentication;
mod confine;
mod delivery;
mod engine;
mod git;
mod hidden;
pub(crate) mod host_secrets;
mod planted_objects;
mod podman_without_root;
mod policy;
mod project_settings;
mod reading;
mod registry;
mod secrets;
mod state;
mod tries;
