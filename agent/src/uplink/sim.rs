//! The agent without sockets, workers and clocks: its spool, and the state machine's access to it. The caller plays the
//! workers and drives the state machine.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::event::{Event, EventBody, Isolation};
use common::ids::JobId;
use common::wire::{AgentFrame, Platform};
use futures_util::FutureExt;
use jiff::Timestamp;

use super::action::SpoolAction;
use super::link::{Input, Link};
use super::spool_access;
use crate::relay_time::{Clocks, SimulatedClocks};
use crate::spool::{JobSpool, RunId, Spool};

/// An agent that runs nothing.
#[derive(Debug)]
pub struct AgentSide {
    name: String,
    spool: Spool,
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
    pub fn open(state: &Path, name: &str, machine: Arc<Mutex<SimulatedClocks>>) -> io::Result<Self> {
        let spool = Spool::open_with_clocks(state, Clocks::Simulated(machine))?;
        Ok(Self { name: name.to_owned(), spool })
    }

    /// Returns the input for an established connection.
    pub fn connected(&self, max_jobs: u32) -> Input {
        let platform = Platform {
            system: "simulated".to_owned(),
            isolation: Isolation::None,
            codex: None,
            codex_problem: None,
        };
        let asked = self.spool.time().monotonic();
        let hello = spool_access::hello(&self.spool, &self.name, max_jobs, platform);
        Input::Connected { hello: Box::new(hello), asked }
    }

    /// Derives the relay's time, as [`Action::Synchronize`](super::action::Action::Synchronize) asks for.
    pub fn synchronize(&self, asked: Duration, theirs: Timestamp) {
        self.spool.time().synchronize(asked, theirs);
    }

    /// Changes the spool. Returns the input that follows from it.
    pub fn apply(&self, action: &SpoolAction) -> Option<Input> {
        spool_access::apply(&self.spool, action)
    }

    /// Returns the bytes of the next frame to send.
    pub fn next_frame(&self, link: &mut Link) -> Option<Vec<u8>> {
        spool_access::next_frame(link, &self.spool)
    }

    /// Returns true if something was appended since the last call.
    pub fn was_appended(&self) -> bool {
        self.spool.wait_appended().now_or_never().is_some()
    }

    /// Removes a run.
    pub fn remove(&self, run: &RunId) {
        self.spool.remove(run);
    }

    /// Accepts a job as the agent does, but for the worker: spec and first event on the disk, then the answer.
    ///
    /// # Errors
    /// The spool can't be written.
    pub fn accept_job(&self, run: &RunId, spec: &str) -> io::Result<AgentFrame> {
        if self.spool.get(run).is_none() {
            let spool = self.spool.create(run.clone(), spec, Arc::default())?;
            spool.append(EventBody::Accepted {
                agent: self.name.clone(),
                isolation: Isolation::None,
                workspace_log: None,
            });
        }
        Ok(AgentFrame::Accepted { job: run.job.clone(), epoch: run.epoch })
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
