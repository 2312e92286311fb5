//! The relay as a node that can be killed: the real writer and core on a folder of their own.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::ids::JobId;
use common::wire::{self, AgentFrame, Durable, RelayFrame};
use fastrand::Rng;
use jiff::SignedDuration;
use relay::internals::{Clock, DaemonId, DaemonRequest, Outgoing, PlantedBug, SimRelay, file_request};

use crate::book::{Book, file};
use crate::disk::{Disk, lengths, take_back};
use crate::model::Model;
use crate::network::{Arrival, ConnId, Network};

/// The relay, up or down.
pub(crate) struct Relay {
    root: PathBuf,
    registry: PathBuf,
    side: Option<SimRelay>,
    /// Clock that continues from one relay process to the next.
    clock: Clock,
    /// Identity of the last relay, for requests.
    last: Option<DaemonId>,
    /// Time for which it was frozen.
    owed: Duration,
    /// Number of requests filed so far: no two have the same time.
    filed: i64,
    planted: Option<PlantedBug>,
    disk: Disk,
    pub(crate) book: Book,
}

impl Relay {
    pub(crate) fn new(root: &Path, clock: Clock, planted: Option<PlantedBug>) -> Self {
        let registry = root.join("platform/workers");
        Self {
            root: root.to_owned(),
            registry,
            side: None,
            clock,
            last: None,
            owed: Duration::ZERO,
            filed: 0,
            planted,
            disk: Disk::default(),
            book: Book::default(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.side.is_some()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.side.as_ref().is_some_and(SimRelay::is_busy)
    }

    pub(crate) fn registry(&self) -> &Path {
        &self.registry
    }

    /// Starts the relay and checks that it finds everything that was durable.
    pub(crate) fn start(&mut self, model: &Model, spoiled: Option<&JobId>) -> Result<(), String> {
        self.clock = self.clock.for_next_relay();
        let side = SimRelay::open_with_bug(&self.root, self.clock.clone(), self.planted)
            .map_err(|e| format!("the relay does not start: {e}"))?;
        (self.side, self.owed) = (Some(side), Duration::ZERO);
        self.rest();
        self.looked(model)?;
        let readable = model.jobs.keys().filter(|job| Some(*job) != spoiled);
        readable.into_iter().try_for_each(|job| self.book.record(&self.registry, job))
    }

    /// Advances time; a `frozen` relay receives that time when it continues. Returns the reasons of closed connections.
    pub(crate) fn pass(
        &mut self,
        time: Duration,
        frozen: bool,
        network: &mut Network,
    ) -> Result<Vec<String>, String> {
        let Some(side) = &mut self.side else { return Ok(Vec::new()) };
        self.owed += time;
        if frozen {
            return Ok(Vec::new());
        }
        let said = side.advance(std::mem::take(&mut self.owed));
        if side.is_down() {
            return Err("the relay obeyed a request that was meant for another one".to_owned());
        }
        self.send(said, network)
    }

    pub(crate) fn file(&mut self, request: &DaemonRequest) {
        self.filed += 1;
        let at = self.clock.now() + SignedDuration::from_nanos(self.filed);
        file_request(&self.root, request, at).expect("a request can be filed");
    }

    /// Identity of the relay before this one: a request that names it must not be obeyed.
    pub(crate) fn earlier(&self) -> Option<DaemonId> {
        self.last.clone()
    }

    pub(crate) fn launch(
        &mut self,
        folder: (&str, bool),
        after: &[JobId],
        group: Option<&str>,
    ) -> Result<Option<JobId>, String> {
        let Some(side) = &mut self.side else { return Ok(None) };
        side.launch("sim", folder, after, group).map(Some).map_err(|e| format!("no launch: {e}"))
    }

    /// Takes the next frame of a connection. Returns the number of frames taken.
    pub(crate) fn receive(&mut self, id: ConnId, network: &mut Network) -> Result<u64, String> {
        let (Some(side), Some(conn)) = (&mut self.side, network.conn(id)) else { return Ok(0) };
        if !conn.served {
            return Ok(0);
        }
        match conn.up.receive() {
            Arrival::Nothing => Ok(0),
            Arrival::End => {
                network.close(id);
                let said = side.disconnect(id);
                self.send(said, network)?;
                Ok(0)
            }
            Arrival::Frame(bytes) => {
                let frame: AgentFrame = wire::decode(&bytes).map_err(|e| format!("a frame: {e}"))?;
                let said =
                    side.receive(id, frame).unwrap_or_else(|reason| vec![(id, Outgoing::Closed(reason))]);
                self.send(said, network)?;
                Ok(1)
            }
        }
    }

    /// Commits a group and sends the acknowledgements; `living` is the only agent that can connect. Returns the reasons
    /// of closed connections.
    pub(crate) fn commit(
        &mut self,
        most: usize,
        living: &str,
        model: &Model,
        network: &mut Network,
    ) -> Result<Vec<String>, String> {
        let Some(side) = &mut self.side else { return Ok(Vec::new()) };
        side.set_living_agent(living);
        let said = side.commit(most);
        self.looked(model)?;
        self.send(said, network)
    }

    fn looked(&mut self, model: &Model) -> Result<(), String> {
        self.book.look(&self.registry, model)?;
        for job in model.jobs.keys() {
            self.disk.synced(&file(&self.registry, job, "events.jsonl"));
        }
        Ok(())
    }

    /// Lets a second pass without input, so that deferred work gets done.
    pub(crate) fn rest(&mut self) {
        if let Some(side) = &mut self.side {
            // Its messages are lost with its connection, or sent again.
            drop(side.advance(Duration::from_secs(1)));
        }
    }

    /// Checks that everything that a frame acknowledges is in the log.
    fn promised(&self, frame: &RelayFrame) -> Result<(), String> {
        let none: &[Durable] = &[];
        let (acks, durable) = match frame {
            RelayFrame::Ack { job, seq, .. } => (Some((job, *seq)), none),
            RelayFrame::Welcome { durable, .. } => (None, durable.as_slice()),
            _ => (None, none),
        };
        for (job, seq) in acks.into_iter().chain(durable.iter().map(|held| (&held.job, held.seq))) {
            let there = self.book.agent_seq(job);
            if seq > there {
                return Err(format!("{job}: {seq} events are acknowledged, the log has {there}"));
            }
        }
        Ok(())
    }

    fn send(&mut self, said: Vec<(ConnId, Outgoing)>, network: &mut Network) -> Result<Vec<String>, String> {
        let mut closed = Vec::new();
        let mut rest = VecDeque::from(said);
        while let Some((id, said)) = rest.pop_front() {
            match said {
                Outgoing::Frame(frame) => {
                    self.promised(&frame)?;
                    let bytes = wire::encode(&frame).map_err(|e| format!("{frame:?}: {e}"))?;
                    if let Some(conn) = network.conn(id) {
                        conn.down.send(bytes);
                    }
                }
                Outgoing::Closed(reason) => {
                    network.close(id);
                    rest.extend(self.side.iter_mut().flat_map(|side| side.disconnect(id)));
                    closed.push(format!("{id}: {reason}"));
                }
            }
        }
        Ok(closed)
    }

    /// Kills the relay: everything that waits for a commit is lost, everything that is written stays.
    pub(crate) fn kill(&mut self, network: &mut Network) {
        let before = lengths(&self.root);
        let ids = fs::read(self.registry.join("event-ids"));
        self.last = self.side.as_ref().map(SimRelay::holder).or_else(|| self.last.take());
        drop(self.side.take());
        take_back(&before);
        // Only an orderly end writes this file.
        if let Ok(ids) = ids {
            fs::write(self.registry.join("event-ids"), ids).expect("a file of the simulation");
        }
        network.close_all();
    }

    /// Simulates a power failure, perhaps in the middle of a commit: of the commit's lines any part may be left.
    pub(crate) fn lose_power(
        &mut self,
        in_commit: bool,
        model: &mut Model,
        spoiled: Option<&JobId>,
        network: &mut Network,
        rng: &mut Rng,
    ) {
        let records: Vec<_> =
            model.jobs.keys().map(|id| fs::read(file(&self.registry, id, "json"))).collect();
        if in_commit && let Some(side) = &mut self.side {
            // Its messages are never sent.
            drop(side.commit(usize::MAX));
        }
        // Records are written after the logs: the record beside an incomplete log is the earlier one.
        let synced = rng.bool();
        self.kill(network);
        for ((id, job), record) in model.jobs.iter_mut().zip(records) {
            let log = file(&self.registry, id, "events.jsonl");
            if synced {
                self.disk.synced(&log);
            } else {
                let path = file(&self.registry, id, "json");
                match record {
                    Ok(record) => overwrite(&path, |_| record),
                    // There was a folder in its place: if the relay had put it aside, the record written after that is
                    // lost.
                    Err(_) if path.is_file() => fs::remove_file(&path).expect("a file of the simulation"),
                    Err(_) => {}
                }
                self.disk.lines(&log);
                self.disk.lose_power(&log, rng, true);
            }
            // The output is for people: only the events are synced. The end of the output is safe as long as the agent
            // has it.
            let output = file(&self.registry, id, "log");
            if rng.u8(..4) == 0 && output.exists() {
                self.disk.grown(&output);
                let cut = self.disk.lose_power(&output, rng, false);
                job.output_cut |= cut && (in_commit || self.book.ended(id));
            }
            // A launch is on the disk before anything can refer to it; from its first commit on a record is a cache.
            match rng.u8(..6) {
                _ if !self.book.begun(id) || Some(id) == spoiled => {}
                0 => overwrite(&file(&self.registry, id, "json"), |_| Vec::new()),
                1 => overwrite(&file(&self.registry, id, "json"), |bytes| bytes[..bytes.len() / 2].to_vec()),
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
