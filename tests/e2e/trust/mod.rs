//! Trust boundaries: input of a less trusted party is data, and runs with no more rights than that party has.

mod confine;
mod consent;
mod delivery;
mod engine;
mod git;
mod hidden;
mod planted;
mod policy;
mod project_settings;
mod proof;
mod reading;
mod registry;
mod secrets;
mod state;
mod tries;
