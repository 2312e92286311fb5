//! Endless loop around connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{LinkError, connect, connection};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::config_source::ConfigSource;
use crate::job::{JobManager, RecoveryNotice};
use crate::spool::Spool;

/// Time between two checks for a new configuration while there is no connection: `relay up` waits for it.
const CHECK_DISCONNECTED: Duration = Duration::from_millis(200);
/// Time between two checks for a new configuration while there is a connection: it hardly ever changes.
const CHECK_CONNECTED: Duration = Duration::from_secs(2);

/// Pause before the next attempt to connect to a relay of another version.
const VERSION_PAUSE: Duration = Duration::from_secs(60);

/// The agent's side of the link.
#[derive(Debug)]
pub(crate) struct Uplink {
    spool: Arc<Spool>,
    jobs: Arc<JobManager>,
    source: ConfigSource,
    config: Option<Arc<Config>>,
    /// Sender for the relay's information about the end of the agent's last process.
    recovery_notice: RecoveryNotice,
    /// Last reason that was logged: the same one is not logged again.
    logged_reason: String,
}

impl Uplink {
    /// Creates an uplink without a connection.
    pub(crate) fn new(
        spool: Arc<Spool>,
        jobs: Arc<JobManager>,
        source: ConfigSource,
        recovery_notice: RecoveryNotice,
    ) -> Self {
        Self { spool, jobs, source, config: None, recovery_notice, logged_reason: String::new() }
    }

    /// Connects and serves, for ever.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            self.check_config();
            let Some(config) = self.config.clone() else {
                tokio::time::sleep(CHECK_DISCONNECTED).await;
                continue;
            };
            let error = self.connect_and_serve(&config, &mut backoff).await;
            self.log_error(&error);
            match error {
                LinkError::Reconfigured => {}
                // Only an upgrade fixes this. An upgrade of the relay brings a new configuration, which ends the
                // wait.
                LinkError::Version(_) => self.wait(VERSION_PAUSE).await,
                _ => self.wait(backoff.next(random())).await,
            }
        }
    }

    async fn connect_and_serve(&mut self, config: &Config, backoff: &mut Backoff) -> LinkError {
        // Before the connection, whose first frame is due soon: a check of Codex can take long.
        let platform = self.jobs.platform().await;
        let socket = match connect::connect(config).await {
            Ok(socket) => socket,
            Err(error) => return error,
        };
        let mut look = interval_at(Instant::now() + CHECK_CONNECTED, CHECK_CONNECTED);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (spool, jobs) = (Arc::clone(&self.spool), Arc::clone(&self.jobs));
        let (reason, recovery_notice) = (&mut self.logged_reason, &self.recovery_notice);
        let welcomed = |cause| {
            tracing::info!("connected to {}", config.url);
            reason.clear();
            backoff.reset();
            recovery_notice.set_cause(cause);
        };
        let (source, current) = (&mut self.source, &mut self.config);
        let reconfigured = || {
            adopt(source, current, &jobs);
            let link =
                |config: &Config| (config.url.clone(), config.token.clone(), config.certificate.clone());
            current.as_ref().is_some_and(|new| link(new) != link(config))
        };
        connection::serve_connection(socket, &spool, &jobs, platform, &mut look, welcomed, reconfigured).await
    }

    /// Waits; a new configuration ends the wait.
    async fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            tokio::time::sleep_until(until.min(Instant::now() + CHECK_DISCONNECTED)).await;
            if self.check_config() {
                return;
            }
        }
    }

    /// Adopts a changed configuration.
    fn check_config(&mut self) -> bool {
        adopt(&mut self.source, &mut self.config, &self.jobs)
    }

    fn log_error(&mut self, error: &LinkError) {
        let reason = error.to_string();
        if reason != self.logged_reason {
            tracing::warn!("{reason}");
            self.logged_reason = reason;
        }
    }
}

fn adopt(source: &mut ConfigSource, current: &mut Option<Arc<Config>>, jobs: &JobManager) -> bool {
    match source.take_changed() {
        Ok(None) => false,
        Ok(Some(config)) => {
            let config = Arc::new(config);
            jobs.configure(Arc::clone(&config));
            *current = Some(config);
            true
        }
        Err(error) => {
            tracing::error!("{error}");
            false
        }
    }
}

/// Returns any number: it only has to differ between agents. Without randomness from the kernel all wait equally
/// long.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => u32::MAX,
    }
}
