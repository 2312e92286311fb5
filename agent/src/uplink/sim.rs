//! The agent's side of the wire without sockets, workers and clocks: the real spool and the real session, for a test
//! that simulates the network in between.
//!
//! A [`PlantedBug`] belongs to this driver. No program of the product has it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::event::{Event, EventBody, Isolation};
use common::ids::JobId;
use common::wire::{AgentFrame, Hello, PROTOCOL, PROTOCOL_MIN, Platform, RelayFrame};

use super::session::{Session, progress};
use crate::deadline::{Action, Timer, TimerEvent, WorkTime};
use crate::job::{AgentContext, JobManager};
use crate::relay_time::{Clocks, SimulatedClocks};
use crate::spool::{JobSpool, RunId, Spool};

/// A bug that the simulation has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// Events are stamped with the agent's own wall clock.
    OwnWallClock,
    /// Time in which the agent did not run counts for limits.
    FrozenTimeCounts,
}

/// An agent that runs nothing: the caller plays its workers.
#[derive(Debug)]
pub struct AgentSide {
    name: String,
    spool: Arc<Spool>,
    jobs: Arc<JobManager>,
    /// Monotonic time of the last hello.
    asked: Cell<Duration>,
    planted: Option<PlantedBug>,
}

/// The time limit of a job, measured as its supervisor does it.
#[derive(Debug)]
pub struct JobLimit {
    begun: Duration,
    time: WorkTime,
    timer: Timer,
    planted: Option<PlantedBug>,
}

impl JobLimit {
    /// Returns true once the job is over its limit; `now` is a reading of the monotonic clock.
    pub fn is_over(&mut self, now: Duration) -> bool {
        let real = now.saturating_sub(self.begun);
        let worked = match self.planted {
            Some(PlantedBug::FrozenTimeCounts) => real,
            _ => self.time.at(real),
        };
        self.timer.check(worked) == Some(TimerEvent::Expired)
    }
}

/// One run as the spool holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// Job of the run.
    pub job: JobId,
    /// Number of the run.
    pub epoch: u32,
    /// Sequence of its newest event.
    pub last_seq: u64,
    /// Length of its output.
    pub output: u64,
    /// True if its end is spooled.
    pub finished: bool,
}

impl AgentSide {
    /// Starts an agent on this state directory.
    ///
    /// # Errors
    /// The spool can't be opened.
    pub fn open(
        state: &Path,
        name: &str,
        machine: Arc<Mutex<SimulatedClocks>>,
        planted: Option<PlantedBug>,
    ) -> io::Result<Self> {
        let spool = Arc::new(Spool::open_with_clocks(state, Clocks::Simulated(machine))?);
        let state = std::path::PathBuf::from("/");
        let context = AgentContext {
            agent: name.to_owned(),
            state,
            env: BTreeMap::default(),
            container: false,
            root: false,
        };
        let jobs = Arc::new(JobManager::new(context, Arc::clone(&spool)));
        Ok(Self { name: name.to_owned(), spool, jobs, asked: Cell::default(), planted })
    }

    /// Returns the first frame of a connection.
    pub fn hello(&self, max_jobs: u32) -> AgentFrame {
        self.asked.set(self.spool.time().monotonic());
        AgentFrame::Hello(Box::new(Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL,
            agent: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_jobs,
            platform: Platform {
                system: "simulated".to_owned(),
                isolation: Isolation::None,
                codex: None,
                codex_problem: None,
            },
            jobs: progress(&self.spool),
        }))
    }

    /// Handles the welcome, as the agent does.
    ///
    /// # Errors
    /// The frame is no welcome.
    pub fn take_welcome(&self, frame: RelayFrame) -> Result<SimConnection<'_>, String> {
        match frame {
            RelayFrame::Welcome { durable, now, .. } => {
                if self.planted != Some(PlantedBug::OwnWallClock) {
                    self.spool.time().synchronize(self.asked.get(), now);
                }
                Ok(SimConnection(Session::new(&self.spool, &self.jobs, durable)))
            }
            other => Err(format!("{other:?} is not a welcome")),
        }
    }

    /// Returns the limit of a job that begins now.
    pub fn limit(&self, limit_ms: u64) -> JobLimit {
        let timer = Timer::new(Duration::ZERO, limit_ms, Action::Fail);
        let begun = self.spool.time().monotonic();
        JobLimit { begun, time: WorkTime::default(), timer, planted: self.planted }
    }

    /// Accepts a job as the agent does, but for the worker: spec and first event on the disk, then the answer.
    ///
    /// # Errors
    /// The spool can't be written.
    pub fn accept_job(&self, job: &JobId, epoch: u32, spec: &str) -> io::Result<AgentFrame> {
        let run = RunId { job: job.clone(), epoch };
        if self.spool.get(&run).is_none() {
            let spool = self.spool.create(run, spec, Arc::default())?;
            spool.append(EventBody::Accepted {
                agent: self.name.clone(),
                isolation: Isolation::None,
                workspace_log: None,
            });
        }
        Ok(AgentFrame::Accepted { job: job.clone(), epoch })
    }

    fn run(&self, job: &JobId, epoch: u32) -> Option<Arc<JobSpool>> {
        self.spool.get(&RunId { job: job.clone(), epoch })
    }

    /// Appends an event of the worker. Ignored for a run that the relay needs nothing more of.
    pub fn append(&self, job: &JobId, epoch: u32, body: EventBody) {
        if let Some(run) = self.run(job, epoch) {
            run.append(body);
        }
    }

    /// Appends output of the worker.
    pub fn append_output(&self, job: &JobId, epoch: u32, bytes: &[u8]) {
        if let Some(run) = self.run(job, epoch) {
            run.append_output(bytes);
        }
    }

    /// Returns every run in the spool, in order.
    pub fn runs(&self) -> Vec<RunState> {
        let runs = self.spool.all();
        runs.iter()
            .map(|run| RunState {
                job: run.run().job.clone(),
                epoch: run.run().epoch,
                last_seq: run.last_seq(),
                output: run.output_end(),
                finished: run.is_finished(),
            })
            .collect()
    }

    /// Returns the events of a run that the spool still has.
    ///
    /// # Errors
    /// The spool can't be read.
    pub fn events(&self, job: &JobId, epoch: u32) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let Some(run) = self.run(job, epoch) else { return Ok(events) };
        let first = run.first_seq();
        loop {
            let more = run.read(first + events.len() as u64, 256, 256 * 1024)?;
            if more.is_empty() {
                return Ok(events);
            }
            events.extend(more);
        }
    }
}

/// A connection, from `Welcome` on.
#[derive(Debug)]
pub struct SimConnection<'a>(Session<'a>);

impl SimConnection<'_> {
    /// Handles a frame; the caller handles a `Start`.
    ///
    /// # Errors
    /// The relay broke the protocol: the connection is over.
    pub fn take(&mut self, frame: RelayFrame) -> Result<(), String> {
        self.0.take_frame(frame).map_err(|error| error.to_string())
    }

    /// Returns the bytes of the next frame to send.
    ///
    /// # Errors
    /// The spool can't be read: the connection is over.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.0.next_frame().map_err(|error| error.to_string())
    }
}
