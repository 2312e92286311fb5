//! The harness of the end-to-end tests: a separate project for each test, with the real programs in it.
//!
//! * [`programs`]: the built `relay` and `worker-agent`. * [`site`]: a project with a registry. Dropping it stops
//!   everything that was started in it, and compares every record with its event log.
//! * [`model`]: a scripted model server as a process, and the real Codex. * [`processes`]: running processes,
//!   read from `/proc`. * [`docker`] and [`podman`]: the real engines. [`podman_user`]: podman without
//!   root. * [`black_hole`]: a server that never answers.
//! * [`sandbox`]: commands inside Codex's sandbox.
//! * [`mcp`]: `relay mcp` and its client.
//! * [`receiver`]: a receiver of webhooks.
//! * [`repository`]: git repositories, generated ones among them.
//! * [`netns`]: relay and agent in separate networks. * [`mount`]: small file systems. [`strace`]: system calls that
//!   fail on purpose. * [`figures`]: measurements. * [`host_session`]: sessions of the real Codex with relay's hooks.
//!   [`codex_tui`]: such a session on a full screen. * [`tmux`]: a real terminal. * [`outbox`]: completion notices waiting
//!   for delivery.
//!
//! No helper waits for a fixed time: [`until`] checks a condition again and again until a generous deadline.

pub mod black_hole;
pub mod codex_tui;
pub mod docker;
pub mod figures;
pub mod host_session;
pub mod mcp;
pub mod model;
pub mod mount;
pub mod netns;
pub mod outbox;
pub mod podman;
pub mod podman_user;
pub mod processes;
pub mod programs;
pub mod receiver;
pub mod repository;
pub mod sandbox;
pub mod site;
pub mod strace;
pub mod tmux;

use std::time::{Duration, Instant};

pub use site::{Engine, Site};

/// Maximum time for a condition to become true, on a machine that other work makes several times slower.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Calls `check` until it returns something, and returns that. Panics with `what` after [`PATIENCE`].
pub fn until<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    until_by(Instant::now() + PATIENCE, what, check)
}

/// Does the same as [`until`], with a given deadline.
pub fn until_by<T>(deadline: Instant, what: &str, check: impl FnMut() -> Option<T>) -> T {
    check_every(Duration::from_millis(10), deadline, what, check)
}

/// Does the same as [`until`], for a check that starts a program of a container engine: that costs much processor time.
pub fn until_engine<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    check_every(Duration::from_millis(150), Instant::now() + PATIENCE, what, check)
}

fn check_every<T>(
    interval: Duration,
    deadline: Instant,
    what: &str,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::park_timeout(interval);
    }
}
