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
//! * [`listen`]: addresses and routes. [`pending_connections`]: connections without a request yet. [`upgrade`]: admission of
//!   agents before the upgrade. [`tls`]: the relay's identity, pinned by agents. [`session`]: one agent's connection;
//!   [`handshake`]: its handshake, [`liveness`]: its liveness check (pure).
//! * [`subscribe`]: the event stream for subscribers.
//! * [`freeze_detector`]: detects that this process or the machine was frozen.
//! * [`writer`]: the sole writer of logs and records, on a thread of its own because it waits for disks.
//! * [`scheduler`]: the scheduler: selects the next job and its agent; pure, with [`capacity`]. [`disconnects`]: timeouts of
//!   disconnected agents; pure. [`connections`]: connected agents. [`core`] and [`core_agents`]: act on these
//!   decisions. [`core_requests`]: carries out the requests of commands. [`platform`]: slow engine calls.
//! * [`engine_events`]: the engine's event stream for the container. [`core_container`]: the core's reaction to it.
//!   [`core_platform`]: brings the platform up. [`container_exit`]: describes how a container exited (pure).
//! * [`extend`]: moves a limit exactly once (pure). [`core_extend`]: the core acts on it.
//! * [`prune`]: removes archived jobs. [`deliver`]: delivers completion notices.
//! * [`message`]: messages to the core. [`request_watcher`]: watches for new requests. [`latest_map`]: newest value per key, passed
//!   between tasks.
//! * `sim`: the relay's side of the wire, for the simulation.

mod disconnects;
mod upgrade;
mod latest_map;
mod connections;
mod core;
mod core_agents;
mod core_container;
mod core_extend;
mod core_platform;
mod core_requests;
mod deliver;
mod scheduler;
mod extend;
mod container_exit;
mod engine_events;
mod handshake;
mod request_watcher;
mod message;
mod listen;
mod platform;
mod prune;
mod freeze_detector;
mod capacity;
mod serve;
mod session;
#[cfg(feature = "internals")]
pub(crate) mod sim;
mod liveness;
mod pending_connections;
mod subscribe;
mod tls;
mod token;
mod writer;

pub use serve::serve;
