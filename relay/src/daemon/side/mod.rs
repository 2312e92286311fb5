//! The relay's side of the wire without sockets, threads and clocks: the real writer and the real scheduler, for a
//! simulation that plays the network in between.
//!
//! ```text
//! frame ──► take ──(queue)──► commit ──► Welcome, acks, Start │ close
//! time ───► pass ──(heartbeat)──► requests, lost hints, disconnected agents, pings, silent connections
//! ```
//!
//! * [`regular`]: periodic work.
//!
//! A [`Planted`] bug is a bug of this driver: one that the daemon once had. No program of the product contains it.

mod regular;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::time::Instant;

use common::ids::JobId;
use common::job::{CodexSettings, JobSpec, Limits, Runner, SPEC_SCHEMA};
use common::rule::{OnLimit, OnLoop};
use common::wire::{AgentFrame, Durable, Hello, RelayFrame};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::absent::Absent;
use super::board::Board;
use super::dispatch::{Action, AgentId, Dispatch};
use super::input::Caller;
use super::silence::Silence;
use super::subscribe::Feed;
use super::writer::{Changes, Command, Receipt, Writer};
use crate::registry::Registry;
use crate::registry::create::{Created, Draft, create};
use crate::registry::lease::Holder;
use crate::time::Clock;

/// A bug that the simulation must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// An agent that has reported that it is full gets offers again only when the end of one of its jobs is recorded.
    FullUntilAnEnd,
    /// Any daemon that finds a request to end a daemon obeys it.
    AnyonesRequest,
    /// One job that can't be read drops the answer to the whole hello.
    WholeHello,
}

/// A relay whose time advances only in [`RelaySide::pass`].
pub struct RelaySide {
    registry: Registry,
    writer: Writer,
    clock: Clock,
    holder: Holder,
    dispatch: Dispatch,
    absent: Absent,
    changes: Changes,
    queue: VecDeque<Command>,
    connections: BTreeMap<u64, Connection>,
    /// Current connection of each agent.
    newest: BTreeMap<AgentId, u64>,
    /// Current time, which advances only in [`RelaySide::pass`].
    now: Instant,
    heartbeat: Instant,
    /// Jobs of the registry that are already known and need no further look.
    known: BTreeSet<JobId>,
    /// Set once a request has ended the relay.
    is_down: bool,
    planted: Option<Planted>,
}

struct Connection {
    caller: Caller,
    silence: Silence,
    ping: Instant,
    hello: Hello,
    receipts: Board<JobId, Receipt>,
    durable: Option<oneshot::Receiver<Vec<Durable>>>,
}

/// Output of the relay to a connection.
#[derive(Debug)]
pub enum Said {
    /// A frame.
    Frame(RelayFrame),
    /// The connection is closed, with the reason.
    Closed(String),
}

impl RelaySide {
    /// Starts a relay on the registry of the project at `root`, which is created if it does not exist.
    ///
    /// # Errors
    /// Fails if the registry can't be read or repaired.
    pub fn open(root: &Path) -> io::Result<Self> {
        Self::open_with(root, Clock::new(None), None)
    }

    /// Starts a relay with this clock, which continues the scale of an earlier relay, and with an optional bug.
    ///
    /// # Errors
    /// As for [`RelaySide::open`].
    #[expect(clippy::disallowed_methods, reason = "the project's folder is no file of the registry")]
    pub fn open_with(root: &Path, clock: Clock, planted: Option<Planted>) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let registry = Registry::of(root);
        registry.ensure().map_err(|failure| io::Error::other(failure.to_string()))?;
        let changes = Changes::new();
        // Only its distance from later times matters.
        let now = Instant::now();
        let (writer, active) =
            Writer::open(registry.clone(), clock.clone(), changes.clone(), Feed::new(), now)?;
        if active.is_empty() {
            clock.set_by_wall_clock();
        }
        let mut side = Self {
            registry,
            writer,
            holder: Holder { pid: 1, started_at: clock.now() },
            clock,
            dispatch: Dispatch::default(),
            absent: Absent::default(),
            changes,
            queue: VecDeque::new(),
            connections: BTreeMap::new(),
            newest: BTreeMap::new(),
            now,
            heartbeat: now,
            known: active.iter().map(|record| record.job.clone()).collect(),
            is_down: false,
            planted,
        };
        let mut said = Vec::new();
        for record in &active {
            let actions = side.dispatch.record(record);
            side.act(actions, &mut said);
        }
        for agent in side.dispatch.holders() {
            let actions = side.dispatch.agent_down(&agent, "the relay was started anew");
            side.absent.gone(agent, side.time());
            side.act(actions, &mut said);
        }
        Ok(side)
    }

    /// Launches a job, as the command line does, and takes it in.
    ///
    /// # Errors
    /// Fails if the registry can't be written.
    pub fn launch(&mut self, name: &str) -> io::Result<JobId> {
        let draft = Draft {
            name: name.parse().map_err(|_| io::Error::other("no name of a job"))?,
            at: self.clock.now(),
            spec: &spec,
            workspace: "/w".to_owned(),
            engine: "local".to_owned(),
            origin: common::origin::Origin::default(),
            key: None,
        };
        let (Created::New(job) | Created::Existing(job)) = create(&self.registry, &draft)?;
        self.known.insert(job.clone());
        self.queue.push_back(Command::Adopt(job.clone()));
        Ok(job)
    }

    /// Receives a frame of a connection; its changes are on the disk after a commit.
    ///
    /// # Errors
    /// Fails if an agent may not send this frame now: the connection is over.
    pub fn take(&mut self, id: u64, frame: AgentFrame) -> Result<Vec<(u64, Said)>, String> {
        let mut said = Vec::new();
        if let AgentFrame::Hello(hello) = frame {
            self.greet(id, *hello);
            return Ok(said);
        }
        let now = self.time();
        let connection = self.connections.get_mut(&id).ok_or("the first frame was no hello")?;
        connection.silence = Silence::since(now);
        let (caller, receipts) = (connection.caller.clone(), connection.receipts.clone());
        let newest = self.newest.get(&caller.agent) == Some(&id);
        match frame {
            AgentFrame::Events { job, epoch, first_seq, batch } => {
                self.queue.push_back(Command::Events { caller, job, epoch, first_seq, batch, receipts });
            }
            AgentFrame::Output { job, epoch, offset, bytes } => {
                self.queue.push_back(Command::Output { caller, job, epoch, offset, bytes, receipts });
            }
            AgentFrame::Accepted { job, .. } => {
                if newest && self.dispatch.agent_of(&job) == Some(&caller.agent) {
                    self.queue.push_back(Command::DropEnv(job));
                }
            }
            AgentFrame::Refused { job, reason, busy, .. } => {
                if newest {
                    let actions = self.dispatch.refused(&caller.agent, &job, reason, busy);
                    self.act(actions, &mut said);
                }
            }
            AgentFrame::Pong { .. } | AgentFrame::Hello(_) => {}
        }
        Ok(said)
    }

    fn greet(&mut self, id: u64, hello: Hello) {
        let caller = Caller { agent: hello.agent.as_str().into(), session: id };
        let (reply, durable) = oneshot::channel();
        let jobs = hello.jobs.clone();
        self.queue.push_back(Command::Durable { caller: caller.clone(), jobs, reply });
        let (silence, ping) = (Silence::since(self.time()), self.now);
        let connection =
            Connection { caller, silence, ping, hello, receipts: Board::new(), durable: Some(durable) };
        self.connections.insert(id, connection);
    }

    /// Returns true if commands wait for a commit.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns the name of this daemon in requests.
    pub fn holder(&self) -> Holder {
        self.holder.clone()
    }

    /// Returns true once a request has ended the relay.
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    fn time(&self) -> tokio::time::Instant {
        self.now.into()
    }

    /// Commits at most `most` of the queued commands as one group, and returns what must be sent then.
    pub fn commit(&mut self, most: usize) -> Vec<(u64, Said)> {
        let group = self.queue.len().min(most);
        self.writer.write(self.queue.drain(..group), self.now);
        let mut said = Vec::new();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in &ids {
            self.acknowledge(*id, &mut said);
        }
        for record in self.changes.take().now_or_never().unwrap_or_default().values() {
            let actions = self.dispatch.record(record);
            self.act(actions, &mut said);
        }
        for id in ids {
            self.welcome(id, &mut said);
        }
        said
    }

    fn acknowledge(&mut self, id: u64, said: &mut Vec<(u64, Said)>) {
        let Some(connection) = self.connections.get(&id) else { return };
        for (job, receipt) in connection.receipts.take().now_or_never().unwrap_or_default() {
            if let Some(problem) = receipt.problem {
                said.push((id, Said::Closed(format!("{job}: {problem}"))));
                return;
            }
            let epoch = receipt.epoch;
            said.push((id, Said::Frame(RelayFrame::Ack { job: job.clone(), epoch, seq: receipt.seq })));
            said.push((id, Said::Frame(RelayFrame::OutputAck { job, epoch, offset: receipt.output })));
        }
    }

    fn welcome(&mut self, id: u64, said: &mut Vec<(u64, Said)>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(reply) = &mut connection.durable else { return };
        let durable = match reply.try_recv() {
            Ok(durable) => durable,
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => {
                return said.push((id, Said::Closed("the registry can't be read".to_owned())));
            }
        };
        connection.durable = None;
        if self.planted == Some(Planted::WholeHello) && durable.len() < connection.hello.jobs.len() {
            return said.push((id, Said::Closed("the registry can't be read".to_owned())));
        }
        let (hello, agent) = (connection.hello.clone(), connection.caller.agent.clone());
        let closed: BTreeSet<_> =
            durable.iter().filter(|held| held.closed).map(|held| (&held.job, held.epoch)).collect();
        let held = hello.jobs.iter().filter(|held| !closed.contains(&(&held.job, held.epoch)));
        let held = held.map(|held| held.job.clone()).collect();
        said.push((
            id,
            Said::Frame(RelayFrame::Welcome {
                protocol: hello.protocol_max,
                durable,
                cause: None,
                now: self.clock.now(),
            }),
        ));
        let older = self.newest.get(&agent).copied();
        if older.is_some_and(|newest| newest > id) {
            return;
        }
        self.newest.insert(agent.clone(), id);
        said.extend(older.map(|old| (old, Said::Closed("a newer connection took over".to_owned()))));
        self.absent.back(&agent, None, self.now.into());
        let capacity = usize::try_from(hello.max_jobs).unwrap_or(usize::MAX);
        let actions = self.dispatch.agent_up(&agent, capacity, &held);
        self.act(actions, said);
    }

    /// Ends the jobs of all disconnected agents while the agent `living` is connected: there is one platform, so their
    /// state is lost. Does nothing while commands wait for a commit: these agents may have sent them.
    pub fn bury_all_but(&mut self, living: &str) -> Vec<(u64, Said)> {
        let mut said = Vec::new();
        if !self.queue.is_empty() || !self.newest.contains_key(living) {
            return said;
        }
        for other in self.dispatch.holders() {
            if !self.newest.contains_key(&other) {
                let actions = self.dispatch.agent_lost(&other);
                self.act(actions, &mut said);
            }
        }
        said
    }

    /// Handles the end of a connection.
    pub fn gone(&mut self, id: u64) -> Vec<(u64, Said)> {
        let mut said = Vec::new();
        let Some(connection) = self.connections.remove(&id) else { return said };
        let caller = connection.caller;
        if self.newest.get(&caller.agent) == Some(&id) {
            self.newest.remove(&caller.agent);
            self.absent.gone(caller.agent.clone(), self.now.into());
            let actions = self.dispatch.agent_down(&caller.agent, "it was cut");
            self.act(actions, &mut said);
        }
        self.queue.push_back(Command::Left(caller));
        said
    }

    fn act(&mut self, actions: Vec<Action>, said: &mut Vec<(u64, Said)>) {
        for action in actions {
            match action {
                Action::Start { agent, job, epoch } => {
                    let spec =
                        self.registry.spec(&job).read_text(crate::registry::read::MOST).unwrap_or_default();
                    self.queue.push_back(Command::Offer { job: job.clone(), agent: agent.clone() });
                    self.tell(&agent, RelayFrame::Start { job, epoch, spec }, said);
                }
                Action::Cancel { agent, job, grace_ms } => {
                    self.tell(&agent, RelayFrame::Cancel { job, grace_ms }, said);
                }
                Action::Reconnect { agent } => {
                    let closed = Said::Closed("the files of one of its jobs can be read again".to_owned());
                    said.extend(self.newest.get(&agent).map(|id| (*id, closed)));
                }
                Action::Record { job, body } => {
                    self.queue.push_back(Command::Own { job, body: Box::new(body) });
                }
            }
        }
    }

    fn tell(&self, agent: &AgentId, frame: RelayFrame, said: &mut Vec<(u64, Said)>) {
        said.extend(self.newest.get(agent).map(|id| (*id, Said::Frame(frame))));
    }
}

fn spec(job: &JobId) -> JobSpec {
    JobSpec {
        schema: SPEC_SCHEMA,
        job: job.clone(),
        runner: Runner::Shell,
        prompt: "true".to_owned(),
        workspace: "/w".to_owned(),
        env: BTreeMap::new(),
        env_names: BTreeSet::new(),
        setup: Vec::new(),
        checks: Vec::new(),
        limits: Limits::default(),
        rules: Vec::new(),
        on_limit: OnLimit::Fail,
        on_loop: OnLoop::Warn,
        codex: CodexSettings::default(),
        thread: None,
    }
}
