//! The daemon: takes agents' events into the registry, hands them jobs, keeps the platform up.
//!
//! ```text
//!  agent ─ WebSocket ─► agent_socket ─► session ──events, output──► writer ──► registry files
//!                                         │  ▲ └────── acks ─────────┘  │
//!                     hello, accepted, … │  │ start, cancel, extend     │ states
//!                                         ▼  │                           ▼
//!  registry/requests ─► inbox ─────────► core (owns queue, lease, platform)
//! ```
//!
//! * [`serve()`]: starts and stops all of it.
//! * [`listen`]: addresses and routes. [`agent_socket`]: the door: who may come in. [`session`]: one connection.
//! * [`subscribe`]: events for other people's programs. [`patient`]: ends a connection that takes nothing.
//! * [`writer`]: the sole writer of logs and records, on a thread of its own because it waits for disks.
//! * [`dispatch`]: which job runs next: pure. [`core`]: acts on it. [`platform`]: the engine's slow calls.
//! * [`follower`]: what the engine tells of the container. [`core_container`]: the core acts on it. [`fate`]: what a death is
//!   called (pure).
//! * [`extend`]: how a limit is moved exactly once. [`core_extend`]: the core acts on it.
//! * [`prune`]: archived jobs are removed.
//! * [`input`]: what the core is told. [`inbox`]: tells when the command line has filed something. [`board`]: newest value per key, between tasks.

mod agent_socket;
mod board;
mod core;
mod core_container;
mod core_extend;
mod dispatch;
mod extend;
mod fate;
mod follower;
mod inbox;
mod input;
mod listen;
mod patient;
mod platform;
mod prune;
mod serve;
mod session;
mod subscribe;
mod token;
mod writer;

pub use serve::serve;
