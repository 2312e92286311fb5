//! Endless loop that drives the state machine: one input at a time, and its actions.

use std::future::{pending, ready};
use std::sync::Arc;

use common::wire::{AgentFrame, Hello};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::action::Action;
use super::connection::Connection;
use super::link::{Input, Link};
use super::{LinkError, spool_access};
use crate::config::Config;
use crate::config_source::ConfigSource;
use crate::job::{JobManager, RecoveryNotice};
use crate::spool::Spool;
use crate::vitals::VitalsMonitor;

/// Result of one wait.
enum Step {
    /// Input for the state machine.
    Input(Input),
    /// There may be a frame to send, and nothing was received.
    Write,
}

/// The agent's side of the link.
#[derive(Debug)]
pub(crate) struct Uplink {
    link: Link,
    connection: Option<Connection>,
    /// Starts of jobs in progress. They are dropped with the connection: the relay repeats them.
    starts: JoinSet<AgentFrame>,
    spool: Arc<Spool>,
    jobs: Arc<JobManager>,
    source: ConfigSource,
    config: Option<Arc<Config>>,
    /// Sender for the relay's information about the end of the agent's last process.
    recovery_notice: RecoveryNotice,
    vitals: VitalsMonitor,
    /// Last reason that was logged: the same one is not logged again.
    logged_reason: String,
    /// Origin of the state machine's time.
    begun: Instant,
}

impl Uplink {
    /// Creates an uplink without a connection.
    pub(crate) fn new(
        spool: Arc<Spool>,
        jobs: Arc<JobManager>,
        source: ConfigSource,
        recovery_notice: RecoveryNotice,
        vitals: VitalsMonitor,
    ) -> Self {
        let begun = Instant::now();
        Self {
            link: Link::new(begun.elapsed()),
            connection: None,
            starts: JoinSet::new(),
            spool,
            jobs,
            source,
            config: None,
            recovery_notice,
            vitals,
            logged_reason: String::new(),
            begun,
        }
    }

    /// Connects and serves, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            while let Some(action) = self.link.next_action() {
                if let Some(input) = self.execute(action).await {
                    self.link.take(input, self.begun.elapsed());
                }
            }
            match self.next_step().await {
                Step::Input(input) => self.link.take(input, self.begun.elapsed()),
                Step::Write => self.write().await,
            }
        }
    }

    async fn next_step(&mut self) -> Step {
        let deadline = self.link.deadline().map(|at| self.begun + at);
        let (may_send, serving) = (self.link.may_send(), self.link.is_serving());
        // Cancel-safe: a half-read message stays in the socket; an answer is taken without a wait after it; a
        // notification that is not taken stays due, and vitals that are not taken stay new. Writing happens outside,
        // where nothing can cut a message in two.
        tokio::select! {
            biased;
            received = receive(&mut self.connection) => Step::Input(received),
            () = wait_until(deadline) => Step::Input(Input::Timer),
            started = next_started(&mut self.starts) => Step::Input(Input::Started(started)),
            vitals = self.vitals.next(), if serving => Step::Input(Input::Vitals(Box::new(vitals))),
            () = ready(()), if may_send => Step::Write,
            () = self.spool.wait_appended(), if serving && !may_send => Step::Input(Input::Appended),
        }
    }

    async fn write(&mut self) {
        let frame = spool_access::next_frame(&mut self.link, &self.spool);
        let Some(connection) = &mut self.connection else { return };
        let written = match frame {
            Some(frame) => connection.send(frame).await,
            None => connection.flush().await,
        };
        if let Err(error) = written {
            self.link.take(Input::Failed(error), self.begun.elapsed());
        }
    }

    /// Executes an action. Returns the input that follows from it.
    async fn execute(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::CheckConfig => return self.check_config(),
            Action::Connect => return Some(self.connect().await.unwrap_or_else(Input::Failed)),
            Action::Synchronize { asked, theirs } => self.spool.time().synchronize(asked, theirs),
            Action::Welcomed { cause } => {
                if let Some(connection) = &self.connection {
                    tracing::info!("connected to {}", connection.config.url);
                }
                self.logged_reason.clear();
                self.recovery_notice.set_cause(cause);
            }
            Action::Spool(action) => return spool_access::apply(&self.spool, &action),
            Action::Start { run, spec } => {
                self.starts.spawn(self.jobs.start(run, spec));
            }
            Action::Extend { job, step, by_ms } => self.jobs.extend(&job, step, by_ms),
            Action::Cancel { job, grace_ms } => self.jobs.cancel(&job, grace_ms),
            Action::Abandon(run) => self.jobs.abandon(&run),
            Action::Close(error) => {
                self.starts = JoinSet::new();
                if let Some(connection) = self.connection.take() {
                    connection.close(&error).await;
                }
                self.log_error(&error);
                return Some(Input::Closed { random: random() });
            }
        }
        None
    }

    async fn connect(&mut self) -> Result<Input, LinkError> {
        let none = || LinkError::Handshake("there is no configuration".to_owned());
        let config = self.config.clone().ok_or_else(none)?;
        // Before the connection, whose first frame is due soon: a check of Codex can take long.
        let platform = self.jobs.platform().await;
        let vitals = self.vitals.first().await.map(Box::new);
        self.connection = Some(Connection::open(config).await?);
        let asked = self.spool.time().monotonic();
        let hello = spool_access::hello(&self.spool, self.jobs.agent(), self.jobs.max_jobs(), platform);
        let hello = Box::new(Hello { vitals, ..hello });
        Ok(Input::Connected { hello, asked })
    }

    /// Adopts a changed configuration.
    fn check_config(&mut self) -> Option<Input> {
        let config = match self.source.take_changed() {
            Ok(config) => Arc::new(config?),
            Err(error) => {
                tracing::error!("{error}");
                return None;
            }
        };
        self.jobs.configure(Arc::clone(&config));
        let link = |config: &Config| (config.url.clone(), config.token.clone(), config.certificate.clone());
        let relay_changed =
            self.connection.as_ref().is_some_and(|connection| link(&connection.config) != link(&config));
        self.config = Some(config);
        Some(Input::Configured { relay_changed })
    }

    fn log_error(&mut self, error: &LinkError) {
        let reason = error.to_string();
        if reason != self.logged_reason {
            tracing::warn!("{reason}");
            self.logged_reason = reason;
        }
    }
}

async fn receive(connection: &mut Option<Connection>) -> Input {
    match connection {
        Some(connection) => connection.receive().await.map_or_else(Input::Failed, Input::Message),
        None => pending().await,
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Waits for the answer to a start.
async fn next_started(starts: &mut JoinSet<AgentFrame>) -> AgentFrame {
    loop {
        match starts.join_next().await {
            Some(Ok(frame)) => return frame,
            // Cut off by the runtime's end.
            Some(Err(_)) => {}
            None => return pending().await,
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
