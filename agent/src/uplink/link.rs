//! State machine of the uplink. Pure: a driver feeds it inputs with the time, and executes its actions.

#![cfg_attr(not(feature = "internals"), expect(unreachable_pub, reason = "the simulation drives it, too"))]

use std::collections::VecDeque;
use std::time::Duration;

use common::wire::{
    self, AgentFrame, DEAD_AFTER, Durable, HELLO_TIMEOUT, Hello, PROTOCOL, PROTOCOL_MIN, RelayFrame,
    TerminationCause,
};
use jiff::Timestamp;

use super::LinkError;
use super::action::Action;
use super::session::{Session, encode_error};
use crate::backoff::Backoff;
use crate::spool::RunId;

/// Time between two checks for a new configuration while there is no connection: `relay up` waits for it.
const CHECK_DISCONNECTED: Duration = Duration::from_millis(200);
/// Time between two checks for a new configuration while there is a connection: it hardly ever changes.
const CHECK_CONNECTED: Duration = Duration::from_secs(2);
/// Pause before the next attempt to connect to a relay of another version.
const VERSION_PAUSE: Duration = Duration::from_secs(60);

/// Input of the state machine.
#[derive(Debug)]
pub enum Input {
    /// A new configuration was adopted.
    Configured {
        /// True if it has another address, certificate or token than the open connection.
        relay_changed: bool,
    },
    /// The connection is established.
    Connected {
        /// First frame to send.
        hello: Box<Hello>,
        /// Reading of the spool's clock when the hello was made.
        asked: Duration,
    },
    /// A message was received; `None` for a message of the transport itself.
    Message(Option<RelayFrame>),
    /// The connection was lost or could not be established.
    Failed(LinkError),
    /// The connection is closed.
    Closed {
        /// Any number, for the length of the pause.
        random: u32,
    },
    /// A job was accepted or refused.
    Started(AgentFrame),
    /// Data was appended to the spool.
    Appended,
    /// The relay has all of a run, which was removed from the spool.
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
    check_at: Duration,
    /// There may be a frame to send.
    may_send: bool,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum State {
    /// There is no configuration, and so no relay to connect to.
    Unconfigured,
    Connecting,
    Greeting(Greeting),
    Serving {
        session: Session,
        /// End of the connection, if nothing is received until then.
        silent_at: Duration,
    },
    Closing(Pause),
    Waiting {
        until: Duration,
    },
}

#[derive(Debug)]
struct Greeting {
    /// Frame to send, until it is sent.
    hello: Option<Box<Hello>>,
    /// Runs that the hello names.
    runs: Vec<RunId>,
    asked: Duration,
    until: Duration,
}

/// Pause before the next attempt to connect.
#[derive(Debug, Clone, Copy)]
enum Pause {
    None,
    Backoff,
    /// Only an upgrade fixes this. An upgrade of the relay brings a new configuration, which ends the pause.
    Version,
}

impl Link {
    /// Creates a link without configuration.
    pub fn new(now: Duration) -> Self {
        Self {
            state: State::Unconfigured,
            backoff: Backoff::default(),
            check_at: now + CHECK_DISCONNECTED,
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
            State::Unconfigured => Some(self.check_at),
            State::Waiting { until } => Some(self.check_at.min(*until)),
            State::Greeting(greeting) => Some(greeting.until),
            State::Serving { silent_at, .. } => Some(self.check_at.min(*silent_at)),
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

    /// Handles an input at `now`, a reading of a monotonic clock.
    pub fn take(&mut self, input: Input, now: Duration) {
        match input {
            Input::Configured { relay_changed } => self.configured(relay_changed),
            Input::Connected { hello, asked } => self.greet(hello, asked, now),
            Input::Message(frame) => self.take_message(frame, now),
            Input::Failed(error) => self.fail(error),
            Input::Closed { random } => self.pause(random, now),
            Input::Started(frame) => {
                let Some(session) = self.session() else { return };
                let queued = session.started(frame);
                self.may_send = true;
                self.check(queued);
            }
            Input::Appended => self.may_send |= self.is_serving(),
            Input::Delivered(run) => {
                if let Some(session) = self.session() {
                    session.forget(&run);
                }
            }
            Input::Timer => self.take_timer(now),
        }
    }

    fn configured(&mut self, relay_changed: bool) {
        match self.state {
            State::Unconfigured | State::Waiting { .. } => self.connect(),
            State::Serving { .. } if relay_changed => self.fail(LinkError::Reconfigured),
            _ => {}
        }
    }

    fn connect(&mut self) {
        self.state = State::Connecting;
        self.actions.extend([Action::CheckConfig, Action::Connect]);
    }

    fn greet(&mut self, hello: Box<Hello>, asked: Duration, now: Duration) {
        let runs = hello.jobs.iter().map(|run| RunId { job: run.job.clone(), epoch: run.epoch }).collect();
        let until = now + HELLO_TIMEOUT;
        self.state = State::Greeting(Greeting { hello: Some(hello), runs, asked, until });
        self.check_at = now + CHECK_CONNECTED;
        self.may_send = true;
    }

    fn take_message(&mut self, frame: Option<RelayFrame>, now: Duration) {
        match (&mut self.state, frame) {
            (State::Greeting(_), Some(frame)) => self.take_welcome(frame, now),
            (State::Serving { session, silent_at }, frame) => {
                *silent_at = now + DEAD_AFTER;
                let Some(frame) = frame else { return };
                let taken = session.take_frame(frame, &mut self.actions);
                self.may_send = true;
                self.check(taken);
            }
            _ => {}
        }
    }

    fn take_welcome(&mut self, frame: RelayFrame, now: Duration) {
        match frame {
            RelayFrame::Welcome { protocol, durable, cause, now: theirs }
                if (PROTOCOL_MIN..=PROTOCOL).contains(&protocol) =>
            {
                self.serve(durable, cause, theirs, now);
            }
            RelayFrame::Welcome { protocol, .. } => {
                self.fail(LinkError::Protocol(format!(
                    "it chose protocol {protocol}, which was not offered"
                )));
            }
            _ => self.fail(LinkError::Protocol("it sent a message before its welcome".to_owned())),
        }
    }

    fn serve(
        &mut self,
        durable: Vec<Durable>,
        cause: Option<TerminationCause>,
        theirs: Timestamp,
        now: Duration,
    ) {
        let State::Greeting(greeting) = &self.state else { return };
        self.actions.push_back(Action::Synchronize { asked: greeting.asked, theirs });
        self.actions.push_back(Action::Welcomed { cause });
        let session = Session::new(&greeting.runs, durable, &mut self.actions);
        self.backoff.reset();
        self.state = State::Serving { session, silent_at: now + DEAD_AFTER };
        self.may_send = true;
    }

    fn check(&mut self, result: Result<(), LinkError>) {
        if let Err(error) = result {
            self.fail(error);
        }
    }

    /// Ends the connection, or the attempt to connect.
    pub(super) fn fail(&mut self, error: LinkError) {
        if !matches!(self.state, State::Connecting | State::Greeting(_) | State::Serving { .. }) {
            return;
        }
        self.state = State::Closing(match error {
            LinkError::Reconfigured => Pause::None,
            LinkError::Version(_) => Pause::Version,
            _ => Pause::Backoff,
        });
        self.may_send = false;
        self.actions.push_back(Action::Close(error));
    }

    fn pause(&mut self, random: u32, now: Duration) {
        let State::Closing(pause) = self.state else { return };
        let pause = match pause {
            Pause::None => return self.connect(),
            Pause::Backoff => self.backoff.next(random),
            Pause::Version => VERSION_PAUSE,
        };
        self.state = State::Waiting { until: now + pause };
        self.check_at = now + CHECK_DISCONNECTED;
    }

    fn take_timer(&mut self, now: Duration) {
        let interval = match &self.state {
            State::Waiting { until } if *until <= now => return self.connect(),
            State::Greeting(greeting) if greeting.until <= now => return self.fail(LinkError::Silent),
            State::Serving { silent_at, .. } if *silent_at <= now => return self.fail(LinkError::Silent),
            State::Serving { .. } => CHECK_CONNECTED,
            State::Unconfigured | State::Waiting { .. } => CHECK_DISCONNECTED,
            State::Connecting | State::Greeting(_) | State::Closing(_) => return,
        };
        if self.check_at <= now {
            self.check_at = now + interval;
            self.actions.push_back(Action::CheckConfig);
        }
    }

    /// Returns the bytes of the next frame that does not need the spool: the hello, or an answer.
    pub(super) fn next_reply(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        match &mut self.state {
            State::Greeting(greeting) => {
                let hello = greeting.hello.take().map(|hello| wire::encode(&AgentFrame::Hello(hello)));
                hello.transpose().map_err(|error| LinkError::Protocol(error.to_string()))
            }
            State::Serving { session, .. } => {
                session.next_reply().map(|reply| wire::encode(&reply)).transpose().map_err(encode_error)
            }
            _ => Ok(None),
        }
    }

    /// Returns the session of an open connection.
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Serving { session, .. } => Some(session),
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
