//! The simulated relay: the real writer and core in a folder of their own, in a process that can be killed.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::ids::JobId;
use common::wire::{self, AgentFrame, Durable, RelayFrame};
use fastrand::Rng;
use jiff::SignedDuration;
use relay::internals::{Clock, DaemonId, DaemonRequest, Outgoing, PlantedBug, SimRelay};

use crate::disk::{Disk, lengths, truncate_grown_files};
use crate::log_checker::{LogChecker, job_file};
use crate::model::Model;
use crate::network::{Arrival, ConnId, Network};

/// The relay, up or down, with everything that outlives its process.
pub(crate) struct Relay {
    root: PathBuf,
    registry: PathBuf,
    /// The running relay process, if there is one.
    sim: Option<SimRelay>,
    /// Clock that continues from one relay process to the next.
    clock: Clock,
    /// Identity of the relay process that was killed last.
    last_identity: Option<DaemonId>,
    /// Time that has passed since the relay last ran; it grows while the relay is frozen.
    unseen_time: Duration,
    /// Number of requests filed so far. It is added to each request's time, so that no two have the same time.
    filed_requests: i64,
    planted_bug: Option<PlantedBug>,
    disk: Disk,
    pub(crate) log_checker: LogChecker,
}

impl Relay {
    pub(crate) fn new(root: &Path, clock: Clock, planted_bug: Option<PlantedBug>) -> Self {
        let registry = root.join("platform/workers");
        Self {
            root: root.to_owned(),
            registry,
            sim: None,
            clock,
            last_identity: None,
            unseen_time: Duration::ZERO,
            filed_requests: 0,
            planted_bug,
            disk: Disk::default(),
            log_checker: LogChecker::default(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.sim.is_some()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.sim.as_ref().is_some_and(SimRelay::is_busy)
    }

    pub(crate) fn registry(&self) -> &Path {
        &self.registry
    }

    /// Starts the relay and checks the logs, and all records but that of `bad_job`.
    pub(crate) fn start(&mut self, model: &Model, bad_job: Option<&JobId>) -> Result<(), String> {
        self.clock = self.clock.for_next_relay();
        let sim = SimRelay::open_with_bug(&self.root, self.clock.clone(), self.planted_bug)
            .map_err(|e| format!("the relay does not start: {e}"))?;
        (self.sim, self.unseen_time) = (Some(sim), Duration::ZERO);
        self.let_second_pass();
        self.check_logs(model)?;
        let readable = model.jobs.keys().filter(|job| Some(*job) != bad_job);
        readable.into_iter().try_for_each(|job| self.log_checker.check_record(&self.registry, job))
    }

    /// Advances time; a frozen relay sees that time when it continues. Returns the reasons of closed connections.
    pub(crate) fn advance_time(
        &mut self,
        time: Duration,
        is_frozen: bool,
        network: &mut Network,
    ) -> Result<Vec<String>, String> {
        let Some(sim) = &mut self.sim else { return Ok(Vec::new()) };
        self.unseen_time += time;
        if is_frozen {
            return Ok(Vec::new());
        }
        let outgoing = sim.advance(std::mem::take(&mut self.unseen_time));
        if sim.is_down() {
            return Err("the relay obeyed a request that was meant for another one".to_owned());
        }
        self.send(outgoing, network)
    }

    pub(crate) fn file_request(&mut self, request: &DaemonRequest) {
        self.filed_requests += 1;
        let at = self.clock.now() + SignedDuration::from_nanos(self.filed_requests);
        relay::internals::file_request(&self.root, request, at).expect("a request can be filed");
    }

    /// Returns the identity of the relay process before this one. No relay may obey a request that names it.
    pub(crate) fn previous_identity(&self) -> Option<DaemonId> {
        self.last_identity.clone()
    }

    pub(crate) fn launch(
        &mut self,
        folder: (&str, bool),
        after: &[JobId],
        group: Option<&str>,
    ) -> Result<Option<JobId>, String> {
        let Some(sim) = &mut self.sim else { return Ok(None) };
        sim.launch("sim", folder, after, group).map(Some).map_err(|e| format!("no launch: {e}"))
    }

    /// Receives the next frame of a connection. Returns the number of received frames, 0 or 1.
    pub(crate) fn receive(&mut self, id: ConnId, network: &mut Network) -> Result<u64, String> {
        let (Some(sim), Some(conn)) = (&mut self.sim, network.conn(id)) else { return Ok(0) };
        if !conn.is_served {
            return Ok(0);
        }
        match conn.up.receive() {
            Arrival::Nothing => Ok(0),
            Arrival::Closed => {
                network.close(id);
                let outgoing = sim.disconnect(id);
                self.send(outgoing, network)?;
                Ok(0)
            }
            Arrival::Frame(bytes) => {
                let frame: AgentFrame = wire::decode(&bytes).map_err(|e| format!("a frame: {e}"))?;
                let outgoing =
                    sim.receive(id, frame).unwrap_or_else(|reason| vec![(id, Outgoing::Closed(reason))]);
                self.send(outgoing, network)?;
                Ok(1)
            }
        }
    }

    /// Carries out at most `max_commands` of the commands that wait for the writer, and sends the acknowledgements.
    /// `agent_id` is the only agent that can connect. Returns the reasons of closed connections.
    pub(crate) fn commit(
        &mut self,
        max_commands: usize,
        agent_id: &str,
        model: &Model,
        network: &mut Network,
    ) -> Result<Vec<String>, String> {
        let Some(sim) = &mut self.sim else { return Ok(Vec::new()) };
        sim.set_living_agent(agent_id);
        let outgoing = sim.commit(max_commands);
        self.check_logs(model)?;
        self.send(outgoing, network)
    }

    fn check_logs(&mut self, model: &Model) -> Result<(), String> {
        self.log_checker.check_new_lines(&self.registry, model)?;
        for job in model.jobs.keys() {
            self.disk.mark_synced(&job_file(&self.registry, job, "events.jsonl"));
        }
        Ok(())
    }

    /// Lets a second pass without input, so that deferred work gets done.
    pub(crate) fn let_second_pass(&mut self) {
        if let Some(sim) = &mut self.sim {
            // The relay's messages of this second are lost with their connection, or sent again.
            drop(sim.advance(Duration::from_secs(1)));
        }
    }

    /// Checks that everything that a frame acknowledges is in the log.
    fn check_acknowledged(&self, frame: &RelayFrame) -> Result<(), String> {
        let none: &[Durable] = &[];
        let (ack, durable) = match frame {
            RelayFrame::Ack { job, seq, .. } => (Some((job, *seq)), none),
            RelayFrame::Welcome { durable, .. } => (None, durable.as_slice()),
            _ => (None, none),
        };
        for (job, seq) in ack.into_iter().chain(durable.iter().map(|held| (&held.job, held.seq))) {
            let logged = self.log_checker.agent_seq(job);
            if seq > logged {
                return Err(format!("{job}: {seq} events are acknowledged, the log has {logged}"));
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        outgoing: Vec<(ConnId, Outgoing)>,
        network: &mut Network,
    ) -> Result<Vec<String>, String> {
        let mut closed = Vec::new();
        let mut rest = VecDeque::from(outgoing);
        while let Some((id, outgoing)) = rest.pop_front() {
            match outgoing {
                Outgoing::Frame(frame) => {
                    self.check_acknowledged(&frame)?;
                    let bytes = wire::encode(&frame).map_err(|e| format!("{frame:?}: {e}"))?;
                    if let Some(conn) = network.conn(id) {
                        conn.down.send(bytes);
                    }
                }
                Outgoing::Closed(reason) => {
                    network.close(id);
                    rest.extend(self.sim.iter_mut().flat_map(|sim| sim.disconnect(id)));
                    closed.push(format!("{id}: {reason}"));
                }
            }
        }
        Ok(closed)
    }

    /// Kills the relay: everything that waits for a commit is lost; everything that was written stays.
    pub(crate) fn kill(&mut self, network: &mut Network) {
        let before = lengths(&self.root);
        let ids = fs::read(self.registry.join("event-ids"));
        self.last_identity = self.sim.as_ref().map(SimRelay::holder).or_else(|| self.last_identity.take());
        drop(self.sim.take());
        truncate_grown_files(&before);
        // Only an orderly end writes this file.
        if let Ok(ids) = ids {
            fs::write(self.registry.join("event-ids"), ids).expect("a file of the simulation");
        }
        network.close_all();
    }

    /// Simulates a power failure, perhaps in a commit, of whose lines any part may be left.
    pub(crate) fn lose_power(
        &mut self,
        in_commit: bool,
        model: &mut Model,
        bad_job: Option<&JobId>,
        network: &mut Network,
        rng: &mut Rng,
    ) {
        let records: Vec<_> =
            model.jobs.keys().map(|id| fs::read(job_file(&self.registry, id, "json"))).collect();
        if in_commit && let Some(sim) = &mut self.sim {
            // The power fails before the messages of this commit are sent.
            drop(sim.commit(usize::MAX));
        }
        // Records are written after the logs: the record beside an incomplete log is the earlier one.
        let synced = rng.bool();
        self.kill(network);
        for ((id, job), record) in model.jobs.iter_mut().zip(records) {
            let log = job_file(&self.registry, id, "events.jsonl");
            if synced {
                self.disk.mark_synced(&log);
            } else {
                let path = job_file(&self.registry, id, "json");
                match record {
                    Ok(record) => overwrite(&path, |_| record),
                    // The relay may have replaced a folder by a record; the power failure loses that record.
                    Err(_) if path.is_file() => fs::remove_file(&path).expect("a file of the simulation"),
                    Err(_) => {}
                }
                self.disk.record_line_ends(&log);
                self.disk.lose_power(&log, rng, true);
            }
            // The relay does not sync output, which is for people. Its end is safe while the agent has it.
            let output = job_file(&self.registry, id, "log");
            if rng.u8(..4) == 0 && output.exists() {
                self.disk.record_length(&output);
                let is_cut = self.disk.lose_power(&output, rng, false);
                job.is_output_cut |= is_cut && (in_commit || self.log_checker.has_outcome(id));
            }
            // From a job's first commit on, its record can be rebuilt.
            match rng.u8(..6) {
                _ if !self.log_checker.has_events(id) || Some(id) == bad_job => {}
                0 => overwrite(&job_file(&self.registry, id, "json"), |_| Vec::new()),
                1 => overwrite(&job_file(&self.registry, id, "json"), |bytes| {
                    bytes[..bytes.len() / 2].to_vec()
                }),
                _ => {}
            }
        }
    }
}

fn overwrite(path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    if let Ok(bytes) = fs::read(path) {
        fs::write(path, change(bytes)).expect("a file of the simulation");
    }
}
