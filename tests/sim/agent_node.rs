//! The simulated agent: a real spool in a folder of its own, without workers.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::event::{Event, EventBody, Isolation};
use common::ids::JobId;
use common::wire::{AgentFrame, Platform};
use futures_util::FutureExt;
use worker_agent::internals::test_support::events;
use worker_agent::internals::{ClockSource, Input, JobSpool, RunId, SimulatedClocks, Spool, build_hello};

/// An agent process that starts no commands: the simulation plays the workers.
pub(crate) struct AgentNode {
    name: String,
    pub(crate) spool: Spool,
}

/// Summary of a run in the spool.
#[derive(Debug)]
pub(crate) struct RunState {
    pub(crate) job: JobId,
    /// Sequence number of the run's newest event.
    #[expect(dead_code, reason = "shown in traces")]
    pub(crate) last_seq: u64,
    /// Length of the run's output, in bytes.
    pub(crate) output: u64,
    /// True if the run's outcome is spooled.
    pub(crate) is_finished: bool,
}

impl AgentNode {
    /// Opens the spool in the state directory, as a starting agent does.
    pub(crate) fn open(state: &Path, name: String, clocks: Arc<Mutex<SimulatedClocks>>) -> io::Result<Self> {
        Ok(Self { name, spool: Spool::open_with_clocks(state, ClockSource::Simulated(clocks))? })
    }

    /// Returns the link's input for an established connection, with the agent's hello.
    pub(crate) fn connected(&self, max_jobs: u32) -> Input {
        let (system, isolation) = ("simulated".to_owned(), Isolation::None);
        let platform = Platform { system, isolation, codex: None, codex_problem: None };
        let hello_sent = self.spool.relay_time().monotonic();
        Input::Connected {
            hello: Box::new(build_hello(&self.spool, &self.name, max_jobs, platform)),
            hello_sent,
        }
    }

    /// Accepts a job without starting a worker: writes spec and first event to the spool, and returns the answer.
    pub(crate) fn accept_job(&self, run: &RunId, spec: &str) -> io::Result<AgentFrame> {
        if self.spool.get_run(run).is_none() {
            let (agent, isolation) = (self.name.clone(), Isolation::None);
            let spool = self.spool.create_run(run.clone(), spec, Arc::default())?;
            spool.append(EventBody::Accepted { agent, isolation, workspace_log: None });
        }
        Ok(AgentFrame::Accepted { job: run.job.clone(), epoch: run.epoch })
    }

    /// Returns the run of a job, unless the relay needs nothing more of it.
    pub(crate) fn run(&self, job: &JobId) -> Option<Arc<JobSpool>> {
        self.spool.get_run(&RunId { job: job.clone(), epoch: 1 })
    }

    /// Returns a summary of every run in the spool, in the order of the runs.
    pub(crate) fn runs(&self) -> Vec<RunState> {
        let runs = self.spool.all_runs();
        runs.iter()
            .map(|run| RunState {
                job: run.run_id().job.clone(),
                last_seq: run.last_seq(),
                output: run.output_end(),
                is_finished: run.is_finished(),
            })
            .collect()
    }

    /// Returns the events of a run that the spool still has.
    pub(crate) fn events(&self, job: &JobId) -> io::Result<Vec<Event>> {
        self.run(job).map_or(Ok(Vec::new()), |run| events(&run))
    }

    /// Returns true if an event or output was appended to the spool since the last call.
    pub(crate) fn was_appended(&self) -> bool {
        self.spool.wait_appended().now_or_never().is_some()
    }
}
