//! What the end-to-end tests share: stand-ins for the outside world that speak its real protocols.
//!
//! * [`harness`]: a project of its own for each test, with the real programs in it.
//! * [`simulated_agent`]: an agent that has no workers: its side of the wire, over real sockets.
//! * [`scripted_model`]: a model server for the real Codex; it says what a script says.

pub mod harness;
pub mod scripted_model;
pub mod simulated_agent;
