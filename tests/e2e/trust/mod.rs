//! What a less trusted party may write or ask for is data, and runs with no more rights than it has.

mod consent;
mod engine;
mod planted;
mod policy;
mod registry;
mod secrets;
mod tries;
