//! Programs that subscribe to events at `/api/v1/events`.
//!
//! * [`client`]: a WebSocket client. * [`controlled_agent`]: an agent whose events a test chooses.
//! * `delivery`: every event once, in order. * `refusals`: refused subscribers. * `slow`: subscribers that do not read.

mod client;
mod controlled_agent;
mod delivery;
mod refusals;
mod slow;
