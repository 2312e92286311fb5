//! Endless loop that drives the state machine: it waits for one input at a time, and executes the resulting actions.

use std::future::{pending, ready};
use std::sync::Arc;

use common::wire::{self, AgentFrame, Hello};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::action::Action;
use super::connection::Connection;
use super::connection_state::{StreamSupport, encode_error};
use super::link::{Input, Link};
use super::streams::Streams;
use super::{LinkError, spool_access};
use crate::config::Config;
use crate::config_source::ConfigSource;
use crate::job::{JobManager, RecoveryNotice};
use crate::spool::Spool;
use crate::stream_request::StreamRequest;
use crate::vitals::VitalsMonitor;

enum WaitResult {
    /// Input for the state machine.
    Input(Input),
    /// There may be a frame to send, and nothing was received.
    ReadyToWrite,
    /// There is a frame of a stream, and nothing else to send.
    StreamFrame(AgentFrame),
}

/// The agent's side of the link.
#[derive(Debug)]
pub(crate) struct Uplink {
    link: Link,
    connection: Option<Connection>,
    streams: Streams,
    /// Starts of jobs in progress. They are dropped with the connection, because the relay repeats them.
    pending_starts: JoinSet<AgentFrame>,
    spool: Arc<Spool>,
    job_manager: Arc<JobManager>,
    config_source: ConfigSource,
    config: Option<Arc<Config>>,
    /// Sender for the relay's information about the end of the agent's last process.
    recovery_notice: RecoveryNotice,
    vitals: VitalsMonitor,
    /// Reason that was logged last. It is not logged again until another reason was logged or a connection succeeded.
    logged_reason: String,
    /// Instant that is time zero of the state machine.
    started_at: Instant,
}

impl Uplink {
    /// Creates an uplink without a connection.
    pub(crate) fn new(
        spool: Arc<Spool>,
        jobs: Arc<JobManager>,
        source: ConfigSource,
        recovery_notice: RecoveryNotice,
        vitals: VitalsMonitor,
        stream_requests: mpsc::Receiver<StreamRequest>,
    ) -> Self {
        let started_at = Instant::now();
        Self {
            link: Link::new(started_at.elapsed()),
            connection: None,
            streams: Streams::new(stream_requests),
            pending_starts: JoinSet::new(),
            spool,
            job_manager: jobs,
            config_source: source,
            config: None,
            recovery_notice,
            vitals,
            logged_reason: String::new(),
            started_at,
        }
    }

    /// Drives the state machine for ever.
    pub(crate) async fn run(mut self) {
        loop {
            while let Some(action) = self.link.next_action() {
                if let Some(input) = self.execute(action).await {
                    self.link.handle_input(input, self.started_at.elapsed());
                }
            }
            match self.next_input().await {
                WaitResult::Input(input) => self.link.handle_input(input, self.started_at.elapsed()),
                WaitResult::ReadyToWrite => self.write_next_frame().await,
                WaitResult::StreamFrame(frame) => self.write_stream_frame(&frame).await,
            }
        }
    }

    async fn next_input(&mut self) -> WaitResult {
        let deadline = self.link.deadline().map(|at| self.started_at + at);
        let (may_send, is_serving) = (self.link.may_send(), self.link.is_serving());
        let support = self.link.stream_support();
        if is_serving && support == StreamSupport::None {
            self.streams.refuse_requests();
        }
        let supports_streams = support != StreamSupport::None && !may_send;
        // Every branch is cancel-safe: a half-read message stays in the socket; the reply to a start is not followed by
        // a further await; a notification or vitals that were not taken are returned next time. Frames are written
        // outside of `select!`, where no write can be interrupted.
        tokio::select! {
            biased;
            received = receive(&mut self.connection) => WaitResult::Input(received),
            () = wait_until(deadline) => WaitResult::Input(Input::Timer),
            started = next_start_reply(&mut self.pending_starts) => WaitResult::Input(Input::Started(started)),
            vitals = self.vitals.next(), if is_serving => WaitResult::Input(Input::Vitals(Box::new(vitals))),
            () = ready(()), if may_send => WaitResult::ReadyToWrite,
            () = self.spool.wait_appended(), if is_serving && !may_send => WaitResult::Input(Input::Appended),
            frame = self.streams.next_frame(support), if supports_streams => WaitResult::StreamFrame(frame),
        }
    }

    /// Writes the next frame; without one, flushes the connection.
    async fn write_next_frame(&mut self) {
        let frame = spool_access::next_frame(&mut self.link, &self.spool);
        let Some(connection) = &mut self.connection else { return };
        let result = match frame {
            Some(frame) => connection.send(frame).await,
            None => connection.flush().await,
        };
        if let Err(error) = result {
            self.link.handle_input(Input::Failed(error), self.started_at.elapsed());
        }
    }

    /// Writes a frame of a stream, and flushes the socket at once: the link has nothing to send, so `write_next_frame`,
    /// which otherwise flushes, is not called.
    async fn write_stream_frame(&mut self, frame: &AgentFrame) {
        let Some(connection) = &mut self.connection else { return };
        let result = match wire::encode(frame) {
            Ok(bytes) => match connection.send(bytes).await {
                Ok(()) => connection.flush().await,
                failed => failed,
            },
            Err(error) => Err(encode_error(error)),
        };
        if let Err(error) = result {
            self.link.handle_input(Input::Failed(error), self.started_at.elapsed());
        }
    }

    /// Executes an action. Returns the input that follows from it.
    async fn execute(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::CheckConfig => return self.check_config(),
            Action::Connect => return Some(self.connect().await.unwrap_or_else(Input::Failed)),
            Action::Synchronize { hello_sent, relay_now } => {
                self.spool.relay_time().synchronize(hello_sent, relay_now);
            }
            Action::SetRecoveryCause { cause } => {
                if let Some(connection) = &self.connection {
                    tracing::info!("connected to {}", connection.config.url);
                }
                self.logged_reason.clear();
                self.recovery_notice.set_cause(cause);
            }
            Action::Spool(action) => return spool_access::apply_action(&self.spool, &action),
            Action::Start { run, spec, model } => {
                self.pending_starts.spawn(self.job_manager.start(run, spec, model));
            }
            Action::Extend { job, is_step_limit, by_ms } => {
                self.job_manager.extend(&job, is_step_limit, by_ms);
            }
            Action::Cancel { job, grace_ms } => self.job_manager.cancel(&job, grace_ms),
            Action::Continue(job) => self.job_manager.end_hold(&job),
            Action::Abandon(run) => self.job_manager.abandon(&run),
            Action::Stream { stream, part } => {
                let result = self.streams.receive(stream, part);
                return result.err().map(|error| Input::Failed(LinkError::Protocol(error.to_string())));
            }
            Action::Close(error) => {
                self.pending_starts = JoinSet::new();
                self.streams.fail_all();
                if let Some(connection) = self.connection.take() {
                    connection.close(&error).await;
                }
                self.log_error(&error);
                return Some(Input::Closed { jitter: random_u32() });
            }
        }
        None
    }

    async fn connect(&mut self) -> Result<Input, LinkError> {
        let missing_config = || LinkError::Handshake("there is no configuration".to_owned());
        let config = self.config.clone().ok_or_else(missing_config)?;
        // Called before connecting: a check of Codex can take long, and once connected, the first frame is due soon.
        let platform = self.job_manager.platform().await;
        let vitals = self.vitals.wait_for_first().await.map(Box::new);
        self.connection = Some(Connection::open(config).await?);
        let hello_sent = self.spool.relay_time().monotonic();
        let hello = spool_access::build_hello(
            &self.spool,
            self.job_manager.agent_id(),
            self.job_manager.max_jobs(),
            platform,
        );
        let hello = Box::new(Hello { vitals, ..hello });
        Ok(Input::Connected { hello, hello_sent })
    }

    /// Adopts a changed configuration.
    fn check_config(&mut self) -> Option<Input> {
        let config = match self.config_source.take_changed() {
            Ok(config) => Arc::new(config?),
            Err(error) => {
                tracing::error!("{error}");
                return None;
            }
        };
        self.job_manager.configure(Arc::clone(&config));
        let relay_settings =
            |config: &Config| (config.url.clone(), config.token.clone(), config.certificate.clone());
        let has_relay_changed = self
            .connection
            .as_ref()
            .is_some_and(|connection| relay_settings(&connection.config) != relay_settings(&config));
        self.config = Some(config);
        Some(Input::Configured { has_relay_changed })
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

/// Waits for the reply to the start of a job.
async fn next_start_reply(starts: &mut JoinSet<AgentFrame>) -> AgentFrame {
    loop {
        match starts.join_next().await {
            Some(Ok(frame)) => return frame,
            // The runtime was shut down before the start ended.
            Some(Err(_)) => {}
            None => return pending().await,
        }
    }
}

/// Returns a random number for the pause, or a constant if the kernel provides none.
fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => u32::MAX,
    }
}
