//! A project of its own for each test, with the real programs in it.
//!
//! * [`programs`]: the built `relay` and `worker-agent`. * [`site`]: a project with a registry; on its end everything it
//!   started is stopped, and every record is held against its event log.
//! * [`model`]: a scripted model server as a process, and the real Codex. * [`processes`]: who runs in a folder,
//!   counted from outside. * [`docker`]: the real engine. * [`black_hole`]: a server that never answers.
//! * [`sandbox`]: commands inside of the sandbox of Codex.
//! * [`mcp`]: `relay mcp` and its client.
//! * [`receiver`]: whom webhooks go to.
//! * [`netns`]: relay and agent in networks of their own. * [`mount`]: small file systems. [`strace`]: calls that fail
//!   on purpose. * [`figures`]: what was measured. * [`host_session`]: sessions of the real Codex with relay's hooks.
//!   [`tui`]: the same on a full screen. * [`tmux`]: a real terminal. * [`outbox`]: ends that are to be delivered.
//!
//! Nothing here sleeps and hopes: [`until`] looks for a fact until a generous deadline.

pub mod black_hole;
pub mod docker;
pub mod figures;
pub mod host_session;
pub mod mcp;
pub mod model;
pub mod mount;
pub mod netns;
pub mod outbox;
pub mod processes;
pub mod programs;
pub mod receiver;
pub mod sandbox;
pub mod site;
pub mod strace;
pub mod tmux;
pub mod tui;

use std::time::{Duration, Instant};

pub use site::{Engine, Site};

/// How long a fact may take on a loaded machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks for a fact until it holds.
///
/// # Panics
/// When it does not hold within [`PATIENCE`].
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_by(Instant::now() + PATIENCE, what, look)
}

/// The same for what takes long by its nature.
///
/// # Panics
/// When it does not hold by then.
pub fn until_by<T>(deadline: Instant, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
