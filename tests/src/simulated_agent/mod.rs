//! An agent that has no workers: its side of the wire over a real socket, so that a test can say what it likes, and a
//! thousand of them fit into one process.
//!
//! * [`door`]: where the relay of a site listens, and what it lets in. * [`link`]: one connection.
//!   [`load`]: what it does to a relay.
//! * [`raw`]: a connection that sends what no library would.
//! * [`crowd`]: many agents, each with a job that goes on until it is told to end.

pub mod crowd;
pub mod door;
pub mod link;
pub mod load;
pub mod raw;

pub use crowd::Crowd;
pub use door::Door;
pub use link::{Ended, Link};

/// Runs a test's own tasks on this thread.
///
/// # Panics
/// When there is no runtime.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|e| panic!("no runtime: {e}")).block_on(work)
}
