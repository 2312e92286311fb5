//! Simulated agents: the agent's side of the wire over a real socket, without workers. A test controls every frame, and
//! a thousand agents fit into one process.
//!
//! * [`endpoint`]: address and credentials of a site's relay. * [`connection`]: one connection. [`load`]: load
//!   on a relay.
//! * [`raw_connection`]: a connection that sends data that no library would send.
//! * [`crowd`]: many agents, each with a job that runs until the test ends it.

pub mod connection;
pub mod crowd;
pub mod endpoint;
pub mod load;
pub mod raw_connection;

pub use connection::{Connection, ConnectionEnd};
pub use crowd::Crowd;
pub use endpoint::Endpoint;

/// Runs a future to its end on this thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|e| panic!("no runtime: {e}")).block_on(work)
}
