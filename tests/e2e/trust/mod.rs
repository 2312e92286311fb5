//! What a less trusted party may write or ask for is data, and runs with no more rights than it has.

mod confine;
mod consent;
mod engine;
mod git;
mod planted;
mod policy;
mod proof;
mod registry;
mod secrets;
mod tries;
