//! What a less trusted party may write or ask for is data, and runs with no more rights than it has.

mod consent;
mod engine;
mod policy;
mod secrets;
