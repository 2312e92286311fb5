//! Event stream for other programs: `GET /api/v1/events`, as a WebSocket or as server-sent events.
//!
//! ```text
//!  writer ──lines──► broadcast (ring_buffer: the newest events) ─┐
//!                                                                ├─► cursor_stream ─chunks─► websocket │ sse ─► program
//!  registry files ──────────────── history ──────────────────────┘      ▲
//!                                 request ─ admission ─ query (job, since) ─┘
//! ```
//!
//! A subscriber has a cursor: the id of the last event that it received. Events that are no longer in memory are read
//! from the files, so a subscriber may be slow. A subscriber that reads nothing is disconnected; it gets its cursor as
//! the reason. The writer never waits for a subscriber.
//!
//! * [`admission`]: admission of subscribers. [`query`]: parses requests. [`token`]: stores the token of subscribers.
//! * [`broadcast`]: the channel from the writer to the subscribers. [`ring_buffer`]: the newest events (pure).
//!   [`cursor_stream`]: all events after a cursor.
//! * [`websocket`], [`sse`]: send events to one subscriber. [`subscriber_timeouts`]: time limits of one.

mod admission;
mod broadcast;
mod cursor_stream;
mod query;
mod ring_buffer;
mod sse;
mod subscriber_timeouts;
mod token;
mod websocket;

pub(super) use admission::{ENDPOINT_PATH, Subscribers, serve_events};
pub(super) use broadcast::Broadcast;
