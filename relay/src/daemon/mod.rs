//! The daemon: takes agents' events into the registry, hands them jobs, keeps the platform up.
//!
//! ```text
//!  agent ─ WebSocket ─► agent_socket ─► session ──events, output──► writer ──► registry files
//!                                         │  ▲ └────── acks ─────────┘  │
//!                     hello, accepted, … │  │ start, cancel             │ states
//!                                         ▼  │                           ▼
//!  registry/requests ─► inbox ─────────► core (owns queue, lease, platform)
//! ```
//!
//! * [`serve()`]: starts and stops all of it.
//! * [`listen`]: addresses and routes. [`agent_socket`]: the door: who may come in. [`session`]: one connection.
//! * [`writer`]: the sole writer of logs and records, on a thread of its own because it waits for disks.
//! * [`dispatch`]: which job runs next: pure. [`core`]: acts on it. [`platform`]: the engine's slow calls.
//! * [`input`]: what the core is told. [`inbox`]: tells when the command line has filed something. [`board`]: newest value per key, between tasks.

mod agent_socket;
mod board;
mod core;
mod dispatch;
mod inbox;
mod input;
mod listen;
mod platform;
mod serve;
mod session;
mod token;
mod writer;

pub use serve::serve;
