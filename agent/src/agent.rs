//! The running agent: puts its parts together, and takes them apart when it is told to stop.
//!
//! ```text
//!  Running ──signal──► Stopping (jobs get up to 5 s) ──idle──► Delivering (up to 2 s) ──► exit 0
//!                          └── second signal: everything is killed at once ──┘
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::config_source::Source;
use crate::environment;
use crate::job::{Jobs, Place, recover};
use crate::signals::Signals;
use crate::spool::Spool;
use crate::state::State;
use crate::uplink::Uplink;

/// What jobs get when the agent stops. With the sweep, the last delivery and a margin this stays below 9 s, and so
/// below the 10 s of `docker stop`.
const GRACE: Duration = Duration::from_millis(4500);
/// How long jobs may take to be over: the grace, and 2 s for what is hard to kill.
const ENDED: Duration = Duration::from_millis(6500);
/// Between two looks whether the state folder is still there: two calls of a microsecond each.
const LOOK: Duration = Duration::from_millis(2500);
/// How long the last events may take to the relay. What is not delivered stays in the spool.
const DELIVERED: Duration = Duration::from_secs(2);

/// Runs until a signal says to stop.
///
/// # Errors
/// The spool can't be opened, or signals can't be heard.
pub(crate) async fn run(state: &State, source: Source) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let spool = Arc::new(Spool::open(&state.dir)?);
    let obituary = recover(&spool);
    let place = Place {
        agent: state.agent.clone(),
        state: state.dir.canonicalize()?,
        env: environment::own(),
        container: in_container(),
        root: rustix::process::geteuid().is_root(),
    };
    let jobs = Arc::new(Jobs::new(place, Arc::clone(&spool)));
    let uplink = Uplink::new(Arc::clone(&spool), Arc::clone(&jobs), source, obituary);
    let uplink = tokio::spawn(uplink.run());
    tracing::info!("agent {} runs", state.agent);

    tokio::select! {
        () = signals.next() => tracing::info!("told to stop"),
        () = lost(state) => tracing::error!("the state folder {} is gone: stopping", state.dir.display()),
    }
    jobs.stop(common::duration::millis(GRACE));
    let ended = async {
        tokio::select! {
            () = jobs.idle() => {}
            () = signals.next() => {
                jobs.stop(0);
                jobs.idle().await;
            }
        }
    };
    if timeout(ENDED, ended).await.is_err() {
        tracing::warn!("some jobs did not end in time");
    }
    // Without a delivery the relay learns of the end when the agent runs again.
    let _ = timeout(DELIVERED, spool.emptied()).await;
    uplink.abort();
    Ok(())
}

/// Returns when the state folder is no longer the one that was taken, as two looks in a row have seen it: all jobs end by
/// that.
async fn lost(state: &State) {
    let mut before = false;
    loop {
        let lost = state.is_lost();
        if lost && before {
            return;
        }
        before = lost;
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether this is a container, as its engine marks it.
fn in_container() -> bool {
    Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists()
}
