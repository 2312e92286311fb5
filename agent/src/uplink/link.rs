//! State machine of the uplink. Pure: a driver feeds it inputs with the time, and executes its actions.

#![cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation drives the link, too")
)]

use std::collections::VecDeque;
use std::time::Duration;

use common::vitals::MachineVitals;
use common::wire::{
    self, AgentFrame, DEAD_AFTER, Durable, HELLO_TIMEOUT, Hello, PROTOCOL, PROTOCOL_MIN, RelayFrame,
    TerminationCause,
};
use jiff::Timestamp;

use super::LinkError;
use super::action::Action;
use super::connection_state::{ConnectionState, StreamSupport, encode_error};
use crate::backoff::Backoff;
use crate::spool::RunId;

/// Time between two checks for a new configuration while there is no connection. It is short because `relay up` waits
/// for the agent to connect.
const DISCONNECTED_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two checks for a new configuration while there is a connection.
const CONNECTED_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Pause before the next attempt to connect to a relay without a common protocol version.
const VERSION_PAUSE: Duration = Duration::from_secs(60);

/// Input of the state machine.
#[derive(Debug)]
pub enum Input {
    /// A new configuration was adopted.
    Configured {
        /// True if the new address, certificate or token differ from those of the open connection.
        has_relay_changed: bool,
    },
    /// The connection is established.
    Connected {
        /// First frame to send.
        hello: Box<Hello>,
        /// Monotonic time at which the hello was created.
        hello_sent: Duration,
    },
    /// A message was received; `None` for a WebSocket message without a frame, such as a ping.
    Message(Option<RelayFrame>),
    /// The connection was lost or could not be established.
    Failed(LinkError),
    /// The connection is closed.
    Closed {
        /// Random number that determines the pause before the next attempt to connect.
        jitter: u32,
    },
    /// A job was accepted or refused.
    Started(AgentFrame),
    /// Data was appended to the spool.
    Appended,
    /// The machine was measured.
    Vitals(Box<MachineVitals>),
    /// The relay has all data of a run, which was removed from the spool.
    Delivered(RunId),
    /// The [`deadline`](Link::deadline) has passed.
    Timer,
}

/// The agent's side of the link to its relay.
#[derive(Debug)]
pub struct Link {
    state: State,
    backoff: Backoff,
    /// Time of the next check for a new configuration.
    config_check_at: Duration,
    /// True if there may be a frame to send.
    may_send: bool,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum State {
    /// There is no configuration, and so no relay to connect to.
    Unconfigured,
    Connecting,
    Handshake(Handshake),
    Serving {
        connection: ConnectionState,
        /// Time at which the connection ends if nothing is received before.
        silence_deadline: Duration,
    },
    Closing(RetryPause),
    Waiting {
        retry_at: Duration,
    },
}

#[derive(Debug)]
struct Handshake {
    /// Frame to send, until it is sent.
    unsent_hello: Option<Box<Hello>>,
    /// Runs that the hello names.
    announced_runs: Vec<RunId>,
    hello_sent: Duration,
    welcome_deadline: Duration,
}

/// Pause before the next attempt to connect.
#[derive(Debug, Clone, Copy)]
enum RetryPause {
    None,
    Backoff,
    /// Long pause because the relay has another version. The new configuration after an upgrade ends the pause.
    Version,
}

impl Link {
    /// Creates a link without configuration.
    pub fn new(now: Duration) -> Self {
        Self {
            state: State::Unconfigured,
            backoff: Backoff::default(),
            config_check_at: now + DISCONNECTED_CHECK_INTERVAL,
            may_send: false,
            actions: VecDeque::from([Action::CheckConfig]),
        }
    }

    /// Returns the next action to execute.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns the time at which [`Input::Timer`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Unconfigured => Some(self.config_check_at),
            State::Waiting { retry_at } => Some(self.config_check_at.min(*retry_at)),
            State::Handshake(handshake) => Some(handshake.welcome_deadline),
            State::Serving { silence_deadline, .. } => Some(self.config_check_at.min(*silence_deadline)),
            State::Connecting | State::Closing(_) => None,
        }
    }

    /// Returns true if there may be a frame to send.
    pub fn may_send(&self) -> bool {
        self.may_send
    }

    /// Returns true if new data in the spool can be sent.
    pub fn is_serving(&self) -> bool {
        matches!(self.state, State::Serving { .. })
    }

    /// Returns the services that streams can be opened for.
    pub(super) fn stream_support(&self) -> StreamSupport {
        match &self.state {
            State::Serving { connection, .. } => connection.stream_support(),
            _ => StreamSupport::None,
        }
    }

    /// Handles an input. `now` is monotonic time.
    pub fn handle_input(&mut self, input: Input, now: Duration) {
        match input {
            Input::Configured { has_relay_changed } => self.on_configured(has_relay_changed),
            Input::Connected { hello, hello_sent } => self.start_handshake(hello, hello_sent, now),
            Input::Message(frame) => self.handle_message(frame, now),
            Input::Failed(error) => self.fail(error),
            Input::Closed { jitter } => self.start_pause(jitter, now),
            Input::Started(frame) => {
                let Some(connection) = self.connection() else { return };
                let queued = connection.queue_start_reply(frame);
                self.may_send = true;
                self.fail_on_error(queued);
            }
            Input::Appended => self.may_send |= self.is_serving(),
            Input::Vitals(vitals) => {
                let Some(connection) = self.connection() else { return };
                connection.set_vitals(vitals);
                self.may_send = true;
            }
            Input::Delivered(run) => {
                if let Some(connection) = self.connection() {
                    connection.forget_run(&run);
                }
            }
            Input::Timer => self.handle_timer(now),
        }
    }

    fn on_configured(&mut self, has_relay_changed: bool) {
        match self.state {
            State::Unconfigured | State::Waiting { .. } => self.connect(),
            State::Serving { .. } if has_relay_changed => self.fail(LinkError::Reconfigured),
            _ => {}
        }
    }

    fn connect(&mut self) {
        self.state = State::Connecting;
        self.actions.extend([Action::CheckConfig, Action::Connect]);
    }

    fn start_handshake(&mut self, hello: Box<Hello>, hello_sent: Duration, now: Duration) {
        let runs = hello.jobs.iter().map(|run| RunId { job: run.job.clone(), epoch: run.epoch }).collect();
        let welcome_deadline = now + HELLO_TIMEOUT;
        self.state = State::Handshake(Handshake {
            unsent_hello: Some(hello),
            announced_runs: runs,
            hello_sent,
            welcome_deadline,
        });
        self.config_check_at = now + CONNECTED_CHECK_INTERVAL;
        self.may_send = true;
    }

    fn handle_message(&mut self, frame: Option<RelayFrame>, now: Duration) {
        match (&mut self.state, frame) {
            (State::Handshake(_), Some(frame)) => self.handle_welcome(frame, now),
            (State::Serving { connection, silence_deadline }, frame) => {
                *silence_deadline = now + DEAD_AFTER;
                let Some(frame) = frame else { return };
                let handled = connection.handle_frame(frame, &mut self.actions);
                self.may_send = true;
                self.fail_on_error(handled);
            }
            _ => {}
        }
    }

    fn handle_welcome(&mut self, frame: RelayFrame, now: Duration) {
        match frame {
            RelayFrame::Welcome { protocol, durable, exit_cause: cause, now: relay_now }
                if (PROTOCOL_MIN..=PROTOCOL).contains(&protocol) =>
            {
                self.start_serving(protocol, durable, cause, relay_now, now);
            }
            RelayFrame::Welcome { protocol, .. } => {
                self.fail(LinkError::Protocol(format!(
                    "it chose protocol {protocol}, which was not offered"
                )));
            }
            _ => self.fail(LinkError::Protocol("it sent a message before its welcome".to_owned())),
        }
    }

    fn start_serving(
        &mut self,
        protocol: u32,
        held_runs: Vec<Durable>,
        cause: Option<TerminationCause>,
        relay_now: Timestamp,
        now: Duration,
    ) {
        let State::Handshake(handshake) = &self.state else { return };
        self.actions.push_back(Action::Synchronize { hello_sent: handshake.hello_sent, relay_now });
        self.actions.push_back(Action::SetRecoveryCause { cause });
        let connection =
            ConnectionState::new(protocol, &handshake.announced_runs, held_runs, &mut self.actions);
        self.backoff.reset();
        self.state = State::Serving { connection, silence_deadline: now + DEAD_AFTER };
        self.may_send = true;
    }

    fn fail_on_error(&mut self, result: Result<(), LinkError>) {
        if let Err(error) = result {
            self.fail(error);
        }
    }

    /// Ends the connection, or the attempt to connect.
    pub(super) fn fail(&mut self, error: LinkError) {
        if !matches!(self.state, State::Connecting | State::Handshake(_) | State::Serving { .. }) {
            return;
        }
        self.state = State::Closing(match error {
            LinkError::Reconfigured => RetryPause::None,
            LinkError::Version(_) => RetryPause::Version,
            _ => RetryPause::Backoff,
        });
        self.may_send = false;
        self.actions.push_back(Action::Close(error));
    }

    fn start_pause(&mut self, jitter: u32, now: Duration) {
        let State::Closing(pause) = self.state else { return };
        let pause = match pause {
            RetryPause::None => return self.connect(),
            RetryPause::Backoff => self.backoff.next_pause(jitter),
            RetryPause::Version => VERSION_PAUSE,
        };
        self.state = State::Waiting { retry_at: now + pause };
        self.config_check_at = now + DISCONNECTED_CHECK_INTERVAL;
    }

    fn handle_timer(&mut self, now: Duration) {
        let interval = match &self.state {
            State::Waiting { retry_at } if *retry_at <= now => return self.connect(),
            State::Handshake(handshake) if handshake.welcome_deadline <= now => {
                return self.fail(LinkError::Silent);
            }
            State::Serving { silence_deadline, .. } if *silence_deadline <= now => {
                return self.fail(LinkError::Silent);
            }
            State::Serving { .. } => CONNECTED_CHECK_INTERVAL,
            State::Unconfigured | State::Waiting { .. } => DISCONNECTED_CHECK_INTERVAL,
            State::Connecting | State::Handshake(_) | State::Closing(_) => return,
        };
        if self.config_check_at <= now {
            self.config_check_at = now + interval;
            self.actions.push_back(Action::CheckConfig);
        }
    }

    /// Returns the bytes of the next frame that does not need the spool: the hello, or a reply.
    pub(super) fn next_reply(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        match &mut self.state {
            State::Handshake(handshake) => {
                let hello =
                    handshake.unsent_hello.take().map(|hello| wire::encode(&AgentFrame::Hello(hello)));
                hello.transpose().map_err(|error| LinkError::Protocol(error.to_string()))
            }
            State::Serving { connection, .. } => {
                connection.next_reply().map(|reply| wire::encode(&reply)).transpose().map_err(encode_error)
            }
            _ => Ok(None),
        }
    }

    /// Returns the state of an open connection.
    pub(super) fn connection(&mut self) -> Option<&mut ConnectionState> {
        match &mut self.state {
            State::Serving { connection, .. } => Some(connection),
            _ => None,
        }
    }

    /// Records that there is nothing to send.
    pub(super) fn set_idle(&mut self) {
        self.may_send = false;
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
