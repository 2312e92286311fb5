//! An agent without workers: its side of the wire over a real socket. A test controls every frame, and a thousand
//! agents fit into one process.
//!
//! * [`door`]: address and credentials of a site's relay. * [`link`]: one connection.
//!   [`load`]: load on a relay.
//! * [`raw`]: a connection that sends data that no library would send.
//! * [`crowd`]: many agents, each with a job that runs until the test ends it.

pub mod crowd;
pub mod door;
pub mod link;
pub mod load;
pub mod raw;

pub use crowd::Crowd;
pub use door::Door;
pub use link::{Ended, Link};

/// Runs a test's own tasks on this thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|e| panic!("no runtime: {e}")).block_on(work)
}
