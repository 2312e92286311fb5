//! The relay's side of the wire without sockets, threads and clocks: the real writer and the real scheduler, for a
//! simulation that plays the network in between.
//!
//! ```text
//! frame ──► receive ──(queue)──► commit ──► Welcome, acks, Start │ close
//! time ───► pass ──(heartbeat)──► requests, lost hints, disconnected agents, pings, silent connections
//! ```
//!
//! * [`regular`]: periodic work.
//!
//! A [`PlantedBug`] bug is a bug of this driver: one that the daemon once had. No program of the product contains it.

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

use super::disconnects::DisconnectTracker;
use super::latest_map::LatestMap;
use super::liveness::IdleTimeout;
use super::message::ConnectionId;
use super::scheduler::{Action, AgentId, Scheduler};
use super::subscribe::Broadcast;
use super::writer::{Changes, Command, Receipt, Writer};
use crate::registry::Registry;
use crate::registry::create::{Created, Draft, create};
use crate::registry::lease::Holder;
use crate::time::Clock;

/// A bug that the simulation must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// An agent that has reported that it is full gets offers again only when the end of one of its jobs is recorded.
    FullUntilAnEnd,
    /// Any daemon that finds a request to end a daemon obeys it.
    AnyonesRequest,
    /// One job that can't be read drops the answer to the whole hello.
    WholeHello,
}

/// A relay whose time advances only in [`SimRelay::advance`].
pub struct SimRelay {
    registry: Registry,
    writer: Writer,
    clock: Clock,
    holder: Holder,
    scheduler: Scheduler,
    disconnects: DisconnectTracker,
    changes: Changes,
    queue: VecDeque<Command>,
    connections: BTreeMap<u64, Connection>,
    /// Current connection of each agent.
    newest: BTreeMap<AgentId, u64>,
    /// Current time, which advances only in [`SimRelay::advance`].
    now: Instant,
    heartbeat: Instant,
    /// Jobs of the registry that are already known and need no further look.
    known: BTreeSet<JobId>,
    /// Set once a request has ended the relay.
    is_down: bool,
    planted: Option<PlantedBug>,
}

struct Connection {
    id: ConnectionId,
    idle_timeout: IdleTimeout,
    ping: Instant,
    hello: Hello,
    receipts: LatestMap<JobId, Receipt>,
    durable: Option<oneshot::Receiver<Vec<Durable>>>,
}

/// Output of the relay to a connection.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame.
    Frame(RelayFrame),
    /// The connection is closed, with the reason.
    Closed(String),
}

impl SimRelay {
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
    /// As for [`SimRelay::open`].
    #[expect(clippy::disallowed_methods, reason = "the project's folder is no file of the registry")]
    pub fn open_with(root: &Path, clock: Clock, planted: Option<PlantedBug>) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let registry = Registry::for_project(root);
        registry.ensure().map_err(|failure| io::Error::other(failure.to_string()))?;
        let changes = Changes::new();
        // Only its distance from later times matters.
        let now = Instant::now();
        let (writer, active) =
            Writer::open(registry.clone(), clock.clone(), changes.clone(), Broadcast::new(), now)?;
        if active.is_empty() {
            clock.set_by_wall_clock();
        }
        let mut side = Self {
            registry,
            writer,
            holder: Holder { pid: 1, started_at: clock.now() },
            clock,
            scheduler: Scheduler::default(),
            disconnects: DisconnectTracker::default(),
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
        let mut outgoing = Vec::new();
        for record in &active {
            let actions = side.scheduler.update(record);
            side.perform(actions, &mut outgoing);
        }
        for agent in side.scheduler.agents_with_jobs() {
            let actions = side.scheduler.agent_down(&agent, "the relay was restarted");
            side.disconnects.disconnected(agent, side.time());
            side.perform(actions, &mut outgoing);
        }
        Ok(side)
    }

    /// Launches a job, as the command line does, and takes it in.
    ///
    /// # Errors
    /// Fails if the registry can't be written.
    pub fn launch(&mut self, name: &str) -> io::Result<JobId> {
        let draft = Draft {
            name: name.parse().map_err(|_| io::Error::other("not the name of a job"))?,
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
    pub fn receive(&mut self, id: u64, frame: AgentFrame) -> Result<Vec<(u64, Outgoing)>, String> {
        let mut outgoing = Vec::new();
        if let AgentFrame::Hello(hello) = frame {
            self.receive_hello(id, *hello);
            return Ok(outgoing);
        }
        let now = self.time();
        let connection = self.connections.get_mut(&id).ok_or("the first frame was not a hello")?;
        connection.idle_timeout = IdleTimeout::starting_at(now);
        let (connection_id, receipts) = (connection.id.clone(), connection.receipts.clone());
        let newest = self.newest.get(&connection_id.agent) == Some(&id);
        match frame {
            AgentFrame::Events { job, epoch, first_seq, batch } => {
                self.queue.push_back(Command::Events {
                    connection_id,
                    job,
                    epoch,
                    first_seq,
                    batch,
                    receipts,
                });
            }
            AgentFrame::Output { job, epoch, offset, bytes } => {
                self.queue.push_back(Command::Output { connection_id, job, epoch, offset, bytes, receipts });
            }
            AgentFrame::Accepted { job, .. } => {
                if newest && self.scheduler.agent_of(&job) == Some(&connection_id.agent) {
                    self.queue.push_back(Command::DropEnv(job));
                }
            }
            AgentFrame::Refused { job, reason, busy, .. } => {
                if newest {
                    let actions = self.scheduler.refused(&connection_id.agent, &job, reason, busy);
                    self.perform(actions, &mut outgoing);
                }
            }
            AgentFrame::Pong { .. } | AgentFrame::Hello(_) => {}
        }
        Ok(outgoing)
    }

    fn receive_hello(&mut self, id: u64, hello: Hello) {
        let connection_id = ConnectionId { agent: hello.agent.as_str().into(), number: id };
        let (reply, durable) = oneshot::channel();
        let jobs = hello.jobs.clone();
        self.queue.push_back(Command::Durable { connection_id: connection_id.clone(), jobs, reply });
        let (idle_timeout, ping) = (IdleTimeout::starting_at(self.time()), self.now);
        let connection = Connection {
            id: connection_id,
            idle_timeout,
            ping,
            hello,
            receipts: LatestMap::new(),
            durable: Some(durable),
        };
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
    pub fn commit(&mut self, most: usize) -> Vec<(u64, Outgoing)> {
        let group = self.queue.len().min(most);
        self.writer.write(self.queue.drain(..group), self.now);
        let mut outgoing = Vec::new();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in &ids {
            self.acknowledge(*id, &mut outgoing);
        }
        for record in self.changes.take_all().now_or_never().unwrap_or_default().values() {
            let actions = self.scheduler.update(record);
            self.perform(actions, &mut outgoing);
        }
        for id in ids {
            self.welcome(id, &mut outgoing);
        }
        outgoing
    }

    fn acknowledge(&mut self, id: u64, outgoing: &mut Vec<(u64, Outgoing)>) {
        let Some(connection) = self.connections.get(&id) else { return };
        for (job, receipt) in connection.receipts.take_all().now_or_never().unwrap_or_default() {
            if let Some(problem) = receipt.problem {
                outgoing.push((id, Outgoing::Closed(format!("{job}: {problem}"))));
                return;
            }
            let epoch = receipt.epoch;
            outgoing
                .push((id, Outgoing::Frame(RelayFrame::Ack { job: job.clone(), epoch, seq: receipt.seq })));
            outgoing
                .push((id, Outgoing::Frame(RelayFrame::OutputAck { job, epoch, offset: receipt.output })));
        }
    }

    fn welcome(&mut self, id: u64, outgoing: &mut Vec<(u64, Outgoing)>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(reply) = &mut connection.durable else { return };
        let durable = match reply.try_recv() {
            Ok(durable) => durable,
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => {
                return outgoing.push((id, Outgoing::Closed("the registry can't be read".to_owned())));
            }
        };
        connection.durable = None;
        if self.planted == Some(PlantedBug::WholeHello) && durable.len() < connection.hello.jobs.len() {
            return outgoing.push((id, Outgoing::Closed("the registry can't be read".to_owned())));
        }
        let (hello, agent) = (connection.hello.clone(), connection.id.agent.clone());
        let closed: BTreeSet<_> =
            durable.iter().filter(|held| held.closed).map(|held| (&held.job, held.epoch)).collect();
        let held = hello.jobs.iter().filter(|held| !closed.contains(&(&held.job, held.epoch)));
        let held = held.map(|held| held.job.clone()).collect();
        outgoing.push((
            id,
            Outgoing::Frame(RelayFrame::Welcome {
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
        outgoing.extend(older.map(|old| (old, Outgoing::Closed("a newer connection took over".to_owned()))));
        self.disconnects.connected(&agent, None, self.now.into());
        let capacity = usize::try_from(hello.max_jobs).unwrap_or(usize::MAX);
        let actions = self.scheduler.agent_up(&agent, capacity, &held);
        self.perform(actions, outgoing);
    }

    /// Ends the jobs of all disconnected agents while the agent `living` is connected: there is one platform, so their
    /// state is lost. Does nothing while commands wait for a commit: these agents may have sent them.
    pub fn end_absent_agents(&mut self, living: &str) -> Vec<(u64, Outgoing)> {
        let mut outgoing = Vec::new();
        if !self.queue.is_empty() || !self.newest.contains_key(living) {
            return outgoing;
        }
        for other in self.scheduler.agents_with_jobs() {
            if !self.newest.contains_key(&other) {
                let actions = self.scheduler.agent_lost(&other);
                self.perform(actions, &mut outgoing);
            }
        }
        outgoing
    }

    /// Handles the end of a connection.
    pub fn disconnected(&mut self, id: u64) -> Vec<(u64, Outgoing)> {
        let mut outgoing = Vec::new();
        let Some(connection) = self.connections.remove(&id) else { return outgoing };
        let connection_id = connection.id;
        if self.newest.get(&connection_id.agent) == Some(&id) {
            self.newest.remove(&connection_id.agent);
            self.disconnects.disconnected(connection_id.agent.clone(), self.now.into());
            let actions = self.scheduler.agent_down(&connection_id.agent, "it was cut");
            self.perform(actions, &mut outgoing);
        }
        self.queue.push_back(Command::Left(connection_id));
        outgoing
    }

    fn perform(&mut self, actions: Vec<Action>, outgoing: &mut Vec<(u64, Outgoing)>) {
        for action in actions {
            match action {
                Action::Start { agent, job, epoch } => {
                    let spec = self
                        .registry
                        .spec(&job)
                        .read_text(crate::registry::read::MAX_FILE_SIZE)
                        .unwrap_or_default();
                    self.queue.push_back(Command::Offer { job: job.clone(), agent: agent.clone() });
                    self.send_to(&agent, RelayFrame::Start { job, epoch, spec }, outgoing);
                }
                Action::Cancel { agent, job, grace_ms } => {
                    self.send_to(&agent, RelayFrame::Cancel { job, grace_ms }, outgoing);
                }
                Action::Reconnect { agent } => {
                    let closed =
                        Outgoing::Closed("the files of one of its jobs can be read again".to_owned());
                    outgoing.extend(self.newest.get(&agent).map(|id| (*id, closed)));
                }
                Action::Record { job, body } => {
                    self.queue.push_back(Command::Own { job, body: Box::new(body) });
                }
            }
        }
    }

    fn send_to(&self, agent: &AgentId, frame: RelayFrame, outgoing: &mut Vec<(u64, Outgoing)>) {
        outgoing.extend(self.newest.get(agent).map(|id| (*id, Outgoing::Frame(frame))));
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
