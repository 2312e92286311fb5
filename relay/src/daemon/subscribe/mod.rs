//! Events for other people's programs: `GET /api/v1/events`, as WebSocket or as server-sent events.
//!
//! ```text
//!  writer ──News──► feed (recent: the newest events, bounded) ─┐
//!                                                              ├─► tail ─chunks─► websocket │ sse ─► program
//!  registry files ─────────────── history ─────────────────────┘    ▲
//!                                   request ─ door ─ ask (job, since) ─┘
//! ```
//!
//! A subscriber is a cursor: the id of the last event it was given. Whatever the newest events in memory no longer hold is
//! read from the files, so a reader may be as slow as it likes as long as it takes something; one that takes nothing is
//! cut off with its cursor. The writer waits for nobody.
//!
//! * [`door`]: who may come in, and where to. [`ask`]: what is asked. [`token`]: the token of such programs.
//! * [`recent`]: the newest events: pure. [`feed`]: the writer puts them there. [`tail`]: all behind a cursor, as it comes.
//! * [`websocket`], [`sse`]: one subscriber each. [`ending`]: how they hear of the relay's end.

mod ask;
mod door;
mod ending;
mod feed;
mod recent;
mod sse;
mod tail;
mod token;
mod websocket;

pub(super) use door::{PATH, Subscribers, enter};
pub(super) use feed::Feed;
