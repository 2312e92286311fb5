//! The relay's side of the wire without sockets, threads and clocks: the real writer and the real core, for a simulation
//! that plays the network in between.
//!
//! ```text
//! frame ──► receive ──► driver, core ──effects──► world ──► Start, Cancel, close
//!             │                                     └─► queue ──► commit ──► writer ──► Welcome, acks, changed records
//! time ───► advance ──► driver: heartbeat, requests, lost hints, timeouts; pings, silent connections
//! ```
//!
//! * [`world`]: what the core's effects reach, and what the next relay knows. [`connections`]: handshakes,
//!   acknowledgements, silent connections.
//!
//! A [`PlantedBug`] is a bug of this driver: one that the daemon once had. No program of the product contains it.

mod connections;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::job::{JobSpec, Runner};
use common::wire::AgentFrame;
use futures_util::FutureExt;

pub use self::world::{Outgoing, PlantedBug};
use self::world::{SimWorld, StateFile};
use super::core::{Core, HEARTBEAT, Input};
use super::driver::Driver;
use super::frames::{self, Route};
use super::liveness::IdleTimeout;
use super::serve::first_lease;
use super::subscribe::Broadcast;
use super::writer::{Changes, Command, Writer};
use crate::engine_kind::EngineKind;
use crate::registry::create::{Created, Draft, create};
use crate::registry::lease::Holder;
use crate::registry::{Registry, read};
use crate::time::Clock;

/// A relay whose time advances only in [`SimRelay::advance`].
pub struct SimRelay {
    driver: Driver<SimWorld>,
    writer: Writer,
    changes: Changes,
    heartbeat: Instant,
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
        let state = StateFile::of_project(root);
        let (holder, saved) = (Holder { pid: 1, started_at: clock.now() }, state.load());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let lease = first_lease(EngineKind::Local, &holder, address, &clock, &saved);
        let world = SimWorld {
            registry,
            clock,
            state,
            holder,
            now,
            connections: BTreeMap::new(),
            queue: VecDeque::new(),
            outgoing: Vec::new(),
            planted,
            full: BTreeSet::new(),
        };
        let core = Core::new(lease, &saved, "platform".to_owned());
        let mut relay = Self { driver: Driver { core, world }, writer, changes, heartbeat: now };
        relay.handle(Input::Opened(active));
        relay.handle(Input::Listening);
        Ok(relay)
    }

    /// Launches a job, as the command line does, and takes it in.
    ///
    /// # Errors
    /// Fails if the registry can't be written.
    pub fn launch(&mut self, name: &str) -> io::Result<JobId> {
        let world = &self.driver.world;
        let draft = Draft {
            name: name.parse().map_err(|_| io::Error::other("not the name of a job"))?,
            at: world.clock.now(),
            spec: &|job| JobSpec::new(job.clone(), Runner::Shell, "true", "/w"),
            workspace: "/w".to_owned(),
            engine: "local".to_owned(),
            origin: common::origin::Origin::default(),
            key: None,
        };
        let (Created::New(job) | Created::Existing(job)) = create(&world.registry, &draft)?;
        let record = read::load(&world.registry, &job)?.record;
        self.handle(Input::JobFound(Box::new(record)));
        Ok(job)
    }

    /// Receives a frame of a connection; its changes are on the disk after a commit.
    ///
    /// # Errors
    /// Fails if an agent may not send this frame now: the connection is over.
    pub fn receive(&mut self, id: u64, frame: AgentFrame) -> Result<Vec<(u64, Outgoing)>, String> {
        if let AgentFrame::Hello(hello) = frame {
            self.receive_hello(id, *hello);
            return Ok(self.take_outgoing());
        }
        let now = self.driver.world.now.into();
        let connection =
            self.driver.world.connections.get_mut(&id).ok_or("the first frame was not a hello")?;
        connection.idle_timeout = IdleTimeout::starting_at(now);
        match frames::route(frame, &connection.id, &connection.receipts)? {
            Route::Writer { command, .. } => self.write(command),
            Route::Core(input) => {
                if let Input::Refused { connection_id, busy: true, .. } = &input {
                    self.driver.world.full.insert(connection_id.agent.clone());
                }
                self.handle(input);
            }
            Route::Nothing => {}
        }
        Ok(self.take_outgoing())
    }

    /// Returns true if commands wait for a commit.
    pub fn is_busy(&self) -> bool {
        !self.driver.world.queue.is_empty()
    }

    /// Returns the name of this daemon in requests.
    pub fn holder(&self) -> Holder {
        self.driver.world.holder.clone()
    }

    /// Returns true once a request has ended the relay.
    pub fn is_down(&self) -> bool {
        let core = &self.driver.core;
        core.is_going_down() || core.is_over(self.driver.world.now.into())
    }

    /// Commits at most `most` of the queued commands as one group, and returns what must be sent then.
    pub fn commit(&mut self, most: usize) -> Vec<(u64, Outgoing)> {
        let world = &mut self.driver.world;
        let group = world.queue.len().min(most);
        self.writer.write(world.queue.drain(..group), world.now);
        let ids: Vec<u64> = world.connections.keys().copied().collect();
        for id in &ids {
            self.acknowledge(*id);
        }
        if let Some(records) = self.changes.take_all().now_or_never() {
            for record in records.values().filter(|record| record.state.is_final()) {
                let agent = record.agent.as_deref().unwrap_or_default();
                self.driver.world.full.remove(agent);
            }
            self.handle(Input::Changed(records));
        }
        for id in ids {
            self.welcome(id);
        }
        self.take_outgoing()
    }

    /// Ends the jobs of all disconnected agents while the agent `living` is connected: there is one platform, so their
    /// state is lost. Does nothing while commands wait for a commit: these agents may have sent them.
    ///
    /// The core does so half a minute after the platform's agent was replaced. It misses an agent that was itself
    /// replaced within that time, and a job whose record could not be read then.
    pub fn end_absent_agents(&mut self, living: &str) -> Vec<(u64, Outgoing)> {
        if !self.is_busy() && self.driver.core.is_connected(living) {
            let effects = self.driver.core.end_absent_agents(self.driver.world.now.into());
            let done = self.driver.perform(effects).now_or_never();
            debug_assert!(done.is_some(), "the simulated world never waits");
        }
        self.take_outgoing()
    }

    /// Advances the time and does the work that becomes due.
    pub fn advance(&mut self, time: Duration) -> Vec<(u64, Outgoing)> {
        self.driver.world.now += time;
        let now = self.driver.world.now;
        if self.writer.due().is_some_and(|due| due <= now) {
            self.writer.tick(now);
        }
        for id in self.driver.world.connections.keys().copied().collect::<Vec<_>>() {
            self.check_connection(id);
        }
        let is_due = self.driver.core.deadline().is_some_and(|deadline| deadline <= now.into());
        if is_due || self.heartbeat <= now {
            self.heartbeat = now + HEARTBEAT;
            let done = self.driver.tick().now_or_never();
            debug_assert!(done.is_some(), "the simulated world never waits");
        }
        self.take_outgoing()
    }

    fn handle(&mut self, input: Input) {
        let done = self.driver.handle(input).now_or_never();
        debug_assert!(done.is_some(), "the simulated world never waits");
    }

    fn write(&mut self, command: Command) {
        self.driver.world.queue.push_back(command);
    }

    fn take_outgoing(&mut self) -> Vec<(u64, Outgoing)> {
        std::mem::take(&mut self.driver.world.outgoing)
    }
}
