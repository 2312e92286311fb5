//! Programs that subscribe to events: `/api/v1/events`, by clients of other make and by one that misbehaves.
//!
//! * [`client`]: a WebSocket client. * [`stand_in`]: an agent that says what a test wants.
//! * `delivery`: everything once, in order. * `refusals`: who is not let in. * `slow`: who takes nothing.

mod client;
mod delivery;
mod refusals;
mod slow;
mod stand_in;
