//! What one party must not get of another.

mod secrets;
