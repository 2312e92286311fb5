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
//! * [`listen`]: addresses and routes. [`strangers`]: connections until they have asked for something. [`agent_socket`]:
//!   the door: who may come in. [`tls`]: what agents know this relay by. [`session`]: one agent's connection; [`greet`]: its first moments,
//!   [`silence`]: its last ones (pure).
//! * [`subscribe`]: events for other people's programs.
//! * [`pulse`]: notices when nothing ran.
//! * [`writer`]: the sole writer of logs and records, on a thread of its own because it waits for disks.
//! * [`dispatch`]: which job runs next, on which agent: pure, with [`room`]. [`absent`]: who is waited for how long: pure.
//!   [`connections`]: who is there. [`core`] and [`core_agents`]: act on it. [`core_requests`]: the core takes what
//!   commands ask for. [`platform`]: the engine's slow calls.
//! * [`follower`]: what the engine tells of the container. [`core_container`]: the core acts on it. [`core_platform`]: the
//!   core brings the platform up. [`fate`]: what a death is
//!   called (pure).
//! * [`extend`]: how a limit is moved exactly once. [`core_extend`]: the core acts on it.
//! * [`prune`]: archived jobs are removed. [`deliver`]: ends go out to whoever is to be told.
//! * [`input`]: what the core is told. [`inbox`]: tells when the command line has filed something. [`board`]: newest value per key, between tasks.
//! * `side`: this side of the wire for the simulation.

mod absent;
mod agent_socket;
mod board;
mod connections;
mod core;
mod core_agents;
mod core_container;
mod core_extend;
mod core_platform;
mod core_requests;
mod deliver;
mod dispatch;
mod extend;
mod fate;
mod follower;
mod greet;
mod inbox;
mod input;
mod listen;
mod platform;
mod prune;
mod pulse;
mod room;
mod serve;
mod session;
#[cfg(feature = "internals")]
pub(crate) mod side;
mod silence;
mod strangers;
mod subscribe;
mod tls;
mod token;
mod writer;

pub use serve::serve;
