//! The daemon: records the agents' events in the registry, schedules jobs and keeps the platform up.
//!
//! ```text
//!  agent ─ WebSocket ─► agent_socket ─► session ──events, output──► writer ──► registry files
//!                                         │  ▲ └────── acks ─────────┘  │
//!                     hello, accepted, … │  │ start, cancel, extend     │ states
//!                                         ▼  │                           ▼
//!  registry/requests ─► inbox ─────────► core (owns queue, lease, platform)
//! ```
//!
//! * [`serve()`]: starts and stops the daemon.
//! * [`listen`]: addresses and routes. [`strangers`]: connections without a request yet. [`agent_socket`]: admission of
//!   agents before the upgrade. [`tls`]: the relay's identity, pinned by agents. [`session`]: one agent's connection;
//!   [`greet`]: its handshake, [`silence`]: its liveness check (pure).
//! * [`subscribe`]: the event stream for subscribers.
//! * [`pulse`]: detects that this process or the machine was frozen.
//! * [`writer`]: the sole writer of logs and records, on a thread of its own because it waits for disks.
//! * [`dispatch`]: the scheduler: selects the next job and its agent; pure, with [`room`]. [`absent`]: timeouts of
//!   disconnected agents; pure. [`connections`]: connected agents. [`core`] and [`core_agents`]: act on these
//!   decisions. [`core_requests`]: carries out the requests of commands. [`platform`]: slow engine calls.
//! * [`follower`]: the engine's event stream for the container. [`core_container`]: the core's reaction to it.
//!   [`core_platform`]: brings the platform up. [`fate`]: describes how a container exited (pure).
//! * [`extend`]: moves a limit exactly once (pure). [`core_extend`]: the core acts on it.
//! * [`prune`]: removes archived jobs. [`deliver`]: delivers completion notices.
//! * [`input`]: messages to the core. [`inbox`]: watches for new requests. [`board`]: newest value per key, passed
//!   between tasks.
//! * `side`: the relay's side of the wire, for the simulation.

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
