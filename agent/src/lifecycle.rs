//! Main function of a running agent: starts its parts, and stops them on a signal.
//!
//! ```text
//!  Running ──signal──► Stopping (jobs get 4.5 s) ──idle──► Delivering (up to 2 s) ──► exit 0
//!     │                    └── second signal: all jobs are killed at once ──┘           ▲
//!     └──the only job of its container was delivered─────────────────────────────────────┘
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::config_source::ConfigSource;
use crate::environment;
use crate::job::{AgentContext, JobManager, recover};
use crate::spool::Spool;
use crate::state_dir::StateDir;
use crate::stream_request;
use crate::uplink::Uplink;
use crate::vitals::VitalsMonitor;

/// Grace period of the jobs when the agent stops. With 2 s for processes that are hard to kill and 2 s for the last
/// delivery, the stop takes less than 9 s. `docker stop` waits 10 s.
const STOP_GRACE: Duration = Duration::from_millis(4500);
/// Time for all jobs to end: the grace period, and 2 s for processes that are hard to kill.
const STOP_TIMEOUT: Duration = Duration::from_millis(6500);
/// Time between two checks that the state directory still exists. A check takes microseconds.
const STATE_DIR_CHECK_INTERVAL: Duration = Duration::from_millis(2500);
/// Time for the last events to reach the relay. Events that are not delivered stay in the spool.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Receivers of the two signals that stop the agent.
#[derive(Debug)]
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs the handlers. From then on the signals no longer end the process.
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal. Cancel-safe: a signal that arrives between two calls is returned by the next one.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs the agent until a signal arrives or the state directory is lost.
///
/// # Errors
/// The spool can't be opened, or no signal handler can be installed.
pub(crate) async fn run(state: &StateDir, source: ConfigSource) -> io::Result<()> {
    let mut signals = StopSignals::new()?;
    let spool = Arc::new(Spool::open(&state.dir)?);
    let vitals = VitalsMonitor::start(state.dir.canonicalize()?);
    let (streams, stream_requests) = stream_request::queue();
    let context = AgentContext {
        agent_id: state.agent_id.clone(),
        state_dir: state.dir.canonicalize()?,
        env: environment::agent_environment(),
        is_in_container: is_in_container(),
        is_root: rustix::process::geteuid().is_root(),
        vitals: vitals.clone(),
        streams,
    };
    let jobs = Arc::new(JobManager::new(context, Arc::clone(&spool)));
    let recovery_notice = recover(&spool, Some(&jobs));
    let uplink =
        Uplink::new(Arc::clone(&spool), Arc::clone(&jobs), source, recovery_notice, vitals, stream_requests);
    let uplink = tokio::spawn(uplink.run());
    tracing::info!("agent {} runs", state.agent_id);

    tokio::select! {
        () = signals.wait() => tracing::info!("stopping"),
        () = only_job_delivered(&jobs, &spool) => tracing::info!("the job of this container was delivered: stopping"),
        () = state_dir_lost(state) => tracing::error!("the state folder {} is gone: stopping", state.dir.display()),
    }
    jobs.stop(common::duration::to_millis(STOP_GRACE));
    let ended = async {
        tokio::select! {
            () = jobs.wait_idle() => {}
            () = signals.wait() => {
                jobs.stop(0);
                jobs.wait_idle().await;
            }
        }
    };
    if timeout(STOP_TIMEOUT, ended).await.is_err() {
        tracing::warn!("some jobs did not end in time");
    }
    // If the last events are not delivered now, the relay receives them when the agent runs again.
    let _ = timeout(DELIVERY_TIMEOUT, spool.wait_empty()).await;
    uplink.abort();
    Ok(())
}

/// Returns when the relay has everything of the job for which this agent was started; never for an agent of many jobs.
async fn only_job_delivered(jobs: &JobManager, spool: &Spool) {
    spool.wait_drained().await;
    if !jobs.has_one_job() {
        std::future::pending::<()>().await;
    }
}

/// Returns when two checks in a row found that this process no longer holds the current state directory.
async fn state_dir_lost(state: &StateDir) {
    let mut was_lost = false;
    loop {
        let is_lost = state.is_lost();
        if is_lost && was_lost {
            return;
        }
        was_lost = is_lost;
        tokio::time::sleep(STATE_DIR_CHECK_INTERVAL).await;
    }
}

/// Returns true in a container. Docker and podman each create a file in their containers that marks them.
fn is_in_container() -> bool {
    Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists()
}
