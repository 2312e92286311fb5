//! Programs that subscribe to events: `/api/v1/events`, with clients of other makes and with a misbehaving one.
//!
//! * [`client`]: a WebSocket client. * [`stand_in`]: an agent that sends the events that a test wants.
//! * `delivery`: everything once, in order. * `refusals`: refused subscribers. * `slow`: subscribers that do not read.

mod client;
mod delivery;
mod refusals;
mod slow;
mod stand_in;
