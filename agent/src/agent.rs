//! The running agent: starts its parts, and stops them on a signal.
//!
//! ```text
//!  Running ──signal──► Stopping (jobs get up to 5 s) ──idle──► Delivering (up to 2 s) ──► exit 0
//!                          └── second signal: all jobs are killed at once ──┘
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
use crate::state_dir::State;
use crate::uplink::Uplink;

/// Grace for jobs when the agent stops. With the sweep, the last delivery and a margin this stays below 9 s, and so
/// below the 10 s of `docker stop`.
const GRACE: Duration = Duration::from_millis(4500);
/// Time for all jobs to end: the grace, and 2 s for what is hard to kill.
const ENDED: Duration = Duration::from_millis(6500);
/// Time between two checks that the state directory still exists: two calls of a microsecond each.
const LOOK: Duration = Duration::from_millis(2500);
/// Time for the last events to reach the relay. Events that are not delivered stay in the spool.
const DELIVERED: Duration = Duration::from_secs(2);

/// Runs until a signal stops the agent.
///
/// # Errors
/// The spool can't be opened, or no signal handler can be installed.
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
    // Without a delivery the relay receives the end when the agent runs again.
    let _ = timeout(DELIVERED, spool.emptied()).await;
    uplink.abort();
    Ok(())
}

/// Returns when two checks in a row have found that the state directory is no longer the one that this process took:
/// that ends all jobs.
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

/// Returns true in a container, as its engine marks it.
fn in_container() -> bool {
    Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists()
}
