//! Simulated relay: the real writer and core without sockets, threads and clocks, on the network of the simulation.
//!
//! ```text
//! frame ──► receive ──► driver, core ──effects──► world ──► Start, Cancel, close
//!             │                                     └─► queue ──► commit ──► writer ──► Welcome, acks, changed records
//! time ───► advance ──► driver: heartbeat, requests, new jobs, timeouts; pings, silent connections
//! ```
//!
//! * [`world`]: the simulated environment of the core, and the state saved for a restart. [`connections`]:
//!   handshakes, acknowledgements, silent connections.
//!
//! A [`PlantedBug`] is a bug that the daemon once had, simulated in this driver. The programs of the product don't
//! contain it.

mod connections;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use common::folder::FolderUse;
use common::ids::JobId;
use common::job::{JobSpec, Runner};
use common::record::State;
use common::wire::AgentFrame;
use futures_util::FutureExt;

pub use self::world::{Outgoing, PlantedBug};
use self::world::{SimWorld, StateFile};
use super::core::{Core, CoreSettings, GroupLimits, HEARTBEAT_INTERVAL, Input};
use super::driver::Driver;
use super::frames::{self, FrameRoute};
use super::liveness::IdleTimeout;
use super::serve::first_lease;
use super::subscribe::Broadcast;
use super::writer::{Changes, Writer, WriterCommand};
use crate::engine_kind::EngineKind;
use crate::registry::create::{CreateResult, Group, JobDraft, Schedule, create_job};
use crate::registry::lease::DaemonId;
use crate::registry::{Registry, read};
use crate::time::Clock;

/// Groups that have a limit in the simulation, each with the limit.
pub const LIMITED_GROUPS: [(&str, u32); 2] = [("one", 1), ("two", 2)];

/// A relay whose time advances only in [`SimRelay::advance`].
pub struct SimRelay {
    driver: Driver<SimWorld>,
    writer: Writer,
    changes: Changes,
    next_heartbeat: Instant,
}

impl SimRelay {
    /// Starts a relay on the registry of the project at `root`, which is created if it does not exist.
    ///
    /// # Errors
    /// Fails if the registry can't be read or repaired.
    pub fn open(root: &Path) -> io::Result<Self> {
        Self::open_with_bug(root, Clock::new(None), None)
    }

    /// Starts a relay with this clock, which continues the scale of an earlier relay, and with an optional bug.
    ///
    /// # Errors
    /// Same as [`SimRelay::open`].
    #[expect(clippy::disallowed_methods, reason = "the project's folder is not a file of the registry")]
    pub fn open_with_bug(root: &Path, clock: Clock, planted_bug: Option<PlantedBug>) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let registry = Registry::for_project(root);
        registry.ensure().map_err(|failure| io::Error::other(failure.to_string()))?;
        let changes = Changes::new();
        // The absolute time does not matter, only the difference to later times.
        let now = Instant::now();
        let (writer, active) =
            Writer::open(registry.clone(), clock.clone(), changes.clone(), Broadcast::new(), now)?;
        if active.is_empty() {
            clock.set_by_wall_clock();
        }
        let state = StateFile::in_project(root);
        let (holder, saved) = (DaemonId { pid: 1, started_at: clock.now() }, state.load());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let lease = first_lease(EngineKind::Local, &holder, address, &clock, &saved);
        let world = SimWorld {
            registry,
            clock,
            state_file: state,
            holder,
            now,
            connections: BTreeMap::new(),
            queue: VecDeque::new(),
            outgoing: Vec::new(),
            planted_bug,
            full_agents: BTreeSet::new(),
            living_agent: String::new(),
        };
        let group_limits: GroupLimits =
            LIMITED_GROUPS.iter().filter_map(|(name, limit)| Some((name.parse().ok()?, *limit))).collect();
        let settings = CoreSettings { group_limits, ..CoreSettings::default() };
        let core = Core::new(lease, &saved, settings);
        let mut relay =
            Self { driver: Driver { core, environment: world }, writer, changes, next_heartbeat: now };
        relay.handle(Input::RegistryOpened(active));
        relay.handle(Input::Listening);
        Ok(relay)
    }

    /// Launches a job like the command line, and passes it to the core. The job works in `folder`, beside other jobs if
    /// `share` is true. It waits for the jobs in `after`, and for a slot of its group.
    ///
    /// # Errors
    /// Fails if the registry can't be written.
    pub fn launch(
        &mut self,
        name: &str,
        (folder, share): (&str, bool),
        after: &[JobId],
        group: Option<&str>,
    ) -> io::Result<JobId> {
        let world = &self.driver.environment;
        let group = group.and_then(|name| name.parse().ok()).map_or(Group::None, Group::Named);
        let draft = JobDraft {
            name: name.parse().map_err(|_| io::Error::other("not the name of a job"))?,
            launched_at: world.clock.now(),
            build_spec: &|job| JobSpec { share, ..JobSpec::new(job.clone(), Runner::Shell, "true", folder) },
            workspace: folder.to_owned(),
            engine: "local".to_owned(),
            origin: common::origin::Origin::default(),
            schedule: Schedule { after: after.to_vec(), base_job: None, group },
            pack: None,
            images: None,
            key: None,
        };
        let (CreateResult::New(job) | CreateResult::Existing(job)) = create_job(&world.registry, &draft)?;
        let mut found = read::find_job(&world.registry, &job)?;
        if world.planted_bug == Some(PlantedBug::IgnoresFolders) {
            found.record.folder_use = FolderUse::Shared;
        }
        self.handle(Input::JobFound(Box::new(found)));
        Ok(job)
    }

    /// Receives a frame of a connection. The frame's changes are on the disk after a commit.
    ///
    /// # Errors
    /// Fails if an agent may not send this frame now. The connection ends then.
    pub fn receive(&mut self, id: u64, frame: AgentFrame) -> Result<Vec<(u64, Outgoing)>, String> {
        if let AgentFrame::Hello(hello) = frame {
            self.receive_hello(id, *hello);
            return Ok(self.take_outgoing());
        }
        let now = self.driver.environment.now.into();
        let connection =
            self.driver.environment.connections.get_mut(&id).ok_or("the first frame was not a hello")?;
        connection.idle_timeout = IdleTimeout::starting_at(now);
        match frames::route_frame(frame, &connection.id, &connection.receipts)? {
            FrameRoute::Writer { command, .. } => self.write(command),
            FrameRoute::Core(input) => {
                if let Input::Refused { connection_id, is_full: true, .. } = &input {
                    self.driver.environment.full_agents.insert(connection_id.agent.clone());
                }
                self.handle(input);
            }
            // The simulation has no git.
            FrameRoute::OpenStream(_) | FrameRoute::StreamPart { .. } | FrameRoute::Ignored => {}
        }
        Ok(self.take_outgoing())
    }

    /// Returns true if commands wait for a commit.
    pub fn is_busy(&self) -> bool {
        !self.driver.environment.queue.is_empty()
    }

    /// Returns the identity of this daemon, which requests name.
    pub fn holder(&self) -> DaemonId {
        self.driver.environment.holder.clone()
    }

    /// Returns true once a request has ended the relay.
    pub fn is_down(&self) -> bool {
        let core = &self.driver.core;
        core.is_stopping_platform() || core.is_over(self.driver.environment.now.into())
    }

    /// Commits at most `max_commands` of the queued commands as one group; returns the frames to send.
    pub fn commit(&mut self, max_commands: usize) -> Vec<(u64, Outgoing)> {
        let world = &mut self.driver.environment;
        let group = world.queue.len().min(max_commands);
        self.writer.apply_and_commit(world.queue.drain(..group), world.now);
        let ids: Vec<u64> = world.connections.keys().copied().collect();
        for id in &ids {
            self.acknowledge(*id);
        }
        if let Some(mut records) = self.changes.take_all().now_or_never() {
            for record in records.values().filter(|record| record.state.is_final()) {
                let agent = record.agent.as_deref().unwrap_or_default();
                self.driver.environment.full_agents.remove(agent);
            }
            let is_planted =
                self.driver.environment.planted_bug == Some(PlantedBug::FailureCountsAsCompletion);
            for record in records.values_mut().filter(|record| is_planted && record.state == State::Failed) {
                record.state = State::Completed;
            }
            self.handle(Input::RecordsChanged(records));
        }
        for id in ids {
            self.welcome(id);
        }
        self.take_outgoing()
    }

    /// Sets the only agent that has a valid token.
    pub fn set_living_agent(&mut self, agent: &str) {
        agent.clone_into(&mut self.driver.environment.living_agent);
    }

    /// Advances the time, and does the work that is due.
    pub fn advance(&mut self, time: Duration) -> Vec<(u64, Outgoing)> {
        self.driver.environment.now += time;
        let now = self.driver.environment.now;
        if self.writer.next_due().is_some_and(|due| due <= now) {
            self.writer.run_due_work(now);
        }
        for id in self.driver.environment.connections.keys().copied().collect::<Vec<_>>() {
            self.check_connection(id);
        }
        let is_due = self.driver.core.deadline().is_some_and(|deadline| deadline <= now.into());
        if is_due || self.next_heartbeat <= now {
            self.next_heartbeat = now + HEARTBEAT_INTERVAL;
            let finished = self.driver.run_periodic_work().now_or_never();
            debug_assert!(finished.is_some(), "the simulated world never waits");
        }
        self.take_outgoing()
    }

    fn handle(&mut self, input: Input) {
        let finished = self.driver.handle_input(input).now_or_never();
        debug_assert!(finished.is_some(), "the simulated world never waits");
    }

    fn write(&mut self, command: WriterCommand) {
        self.driver.environment.queue.push_back(command);
    }

    fn take_outgoing(&mut self) -> Vec<(u64, Outgoing)> {
        std::mem::take(&mut self.driver.environment.outgoing)
    }
}
