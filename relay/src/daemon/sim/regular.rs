//! Periodic work of the relay: requests, retries, silent connections.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use common::ids::JobId;
use common::wire::RelayFrame;

use super::{Outgoing, PlantedBug, SimRelay};
use crate::daemon::core::HEARTBEAT;
use crate::daemon::disconnects::Due;
use crate::daemon::scheduler::AgentId;
use crate::daemon::writer::Command;
use crate::registry::read;
use crate::registry::requests::{self, Request};

impl SimRelay {
    /// Advances the time and does the work that becomes due.
    pub fn advance(&mut self, time: Duration) -> Vec<(u64, Outgoing)> {
        self.now += time;
        let mut outgoing = Vec::new();
        if self.writer.due().is_some_and(|due| due <= self.now) {
            self.writer.tick(self.now);
        }
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.check_connection(id, &mut outgoing);
        }
        if self.heartbeat <= self.now {
            self.heartbeat = self.now + HEARTBEAT;
            self.tick(&mut outgoing);
        }
        outgoing
    }

    /// Pings a connection, or closes a silent one.
    fn check_connection(&mut self, id: u64, outgoing: &mut Vec<(u64, Outgoing)>) {
        let (now, time) = (self.now, self.time());
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.idle_timeout.is_over(time) {
            return outgoing.push((id, Outgoing::Closed("no message from the agent".to_owned())));
        }
        if connection.durable.is_none() && connection.ping <= now {
            connection.ping = now + common::wire::PING_INTERVAL;
            outgoing.push((id, Outgoing::Frame(RelayFrame::Ping { nonce: id })));
        }
    }

    /// Runs the periodic work, as the core does.
    fn tick(&mut self, outgoing: &mut Vec<(u64, Outgoing)>) {
        if self.queue.is_empty() && self.scheduler.is_empty() && self.clock.was_set().is_some() {
            self.clock.set_by_wall_clock();
            outgoing.extend(
                self.newest.values().map(|id| (*id, Outgoing::Closed("the clock was set".to_owned()))),
            );
        }
        // Sorted, so that the order does not depend on the file system.
        for job in BTreeSet::from_iter(read::jobs(&self.registry).unwrap_or_default()) {
            self.adopt_job(&job, outgoing);
        }
        self.apply_requests(outgoing);
        let newest = &self.newest;
        let due =
            self.disconnects.due(|agent| newest.contains_key(agent), !newest.is_empty(), self.now.into());
        for due in due {
            if let Due::GiveUp(agent) = due {
                let actions = self.scheduler.give_up(&agent);
                self.perform(actions, outgoing);
            }
        }
        if self.planted != Some(PlantedBug::FullUntilAnEnd) {
            let actions = self.scheduler.retry();
            self.perform(actions, outgoing);
        }
    }

    /// Takes in a job of the registry that is not known yet.
    fn adopt_job(&mut self, job: &JobId, outgoing: &mut Vec<(u64, Outgoing)>) {
        if self.known.contains(job) {
            return;
        }
        let Ok(stored) = read::load(&self.registry, job) else { return };
        if stored.record.schema > common::record::SCHEMA {
            return;
        }
        self.known.insert(job.clone());
        if stored.record.state.is_final() {
            return;
        }
        self.queue.push_back(Command::Adopt(job.clone()));
        let newest = |agent: &AgentId| self.connections.get(self.newest.get(agent)?);
        let holds = |agent: &AgentId| {
            newest(agent).is_some_and(|here| here.hello.jobs.iter().any(|held| held.job == *job))
        };
        let actions = self.scheduler.add_found(&stored.record, holds);
        self.perform(actions, outgoing);
    }

    /// Reads and handles the filed requests.
    fn apply_requests(&mut self, outgoing: &mut Vec<(u64, Outgoing)>) {
        for filed in requests::pending(&self.registry).unwrap_or_default() {
            let obeys = |request: &Request| {
                request.is_for(&self.holder) || self.planted == Some(PlantedBug::AnyonesRequest)
            };
            let done = match filed.request.filter(obeys) {
                Some(Request::Cancel { job, grace_ms }) => {
                    self.adopt_job(&job, outgoing);
                    match self.scheduler.cancel(&job, grace_ms) {
                        Some(actions) => {
                            self.perform(actions, outgoing);
                            false
                        }
                        None => {
                            !matches!(read::load(&self.registry, &job), Err(e) if e.kind() != io::ErrorKind::NotFound)
                        }
                    }
                }
                Some(Request::Down { .. } | Request::Restart { .. }) => {
                    self.is_down = true;
                    true
                }
                _ => true,
            };
            if done {
                // A request that stays is handled again.
                let _ = requests::remove(&self.registry, &filed.path);
            }
        }
    }
}
