//! What a less trusted party can write or ask for runs with no more rights than it has.

mod confine;
mod git;
