//! One seed: an agent, a relay, a network between them, and all faults of the three.
//!
//! ```text
//! chaos: one action after the other, drawn by weight; each seed has its own mix of faults
//! healing: no more faults; everything must be delivered within a bounded number of rounds
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::ids::JobId;
use fastrand::Rng;
use relay::internals::{Clock, LIMITED_GROUPS};
use worker_agent::internals::{Input, LinkError};

use crate::agent_node::AgentNode;
use crate::clocks::{Clocks, Side};
use crate::disk::{Disk, lengths, take_back};
use crate::limits::Limit;
use crate::mix::{Action, Mix};
use crate::model::{Job, Model};
use crate::network::{ConnId, Network};
use crate::planted::Planted;
use crate::relay::Relay;
use crate::spoiled::Spoiled;
use crate::trace::{Tally, Trace};
use crate::uplink::End;

/// Time that passes in a step.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// Folders that jobs work in: the first contains the second.
const FOLDERS: [&str; 3] = ["/w", "/w/sub", "/x"];
/// Groups of jobs with their limits.
const GROUPS: [Option<(&str, u32)>; 4] =
    [None, Some(("free", u32::MAX)), Some(LIMITED_GROUPS[0]), Some(LIMITED_GROUPS[1])];

/// Everything of one seed except the agent's spool.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) mix: Mix,
    pub(crate) network: Network,
    pub(crate) relay: Relay,
    pub(crate) model: Model,
    /// The agent's disk.
    pub(crate) disk: Disk,
    pub(crate) state: PathBuf,
    pub(crate) life: u32,
    pub(crate) wipes: u32,
    /// Serial number that makes every event unique.
    pub(crate) serial: i32,
    /// Frames that this agent process has sent.
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) step: u64,
    /// True once this agent process was welcomed.
    pub(crate) welcomed: bool,
    pub(crate) clocks: Clocks,
    /// True time of the agent's last hello.
    pub(crate) asked: Duration,
    /// Frozen sides, and when each continues.
    pub(crate) frozen: BTreeMap<Side, Duration>,
    /// Slots in use; for workers that are being ended, the time at which the slot becomes free.
    pub(crate) slots: BTreeMap<JobId, Option<Duration>>,
    pub(crate) limits: BTreeMap<JobId, Limit>,
    pub(crate) spoiled: Option<Spoiled>,
    /// The agent's end of its connection.
    pub(crate) end: End,
    pub(crate) planted: Planted,
}

/// Ways in which an agent process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fall {
    Kill,
    Power,
    Wipe,
    /// Everything is delivered: the seed is done.
    Over,
}

/// Plays a seed to its end.
pub(crate) fn play(seed: u64, folder: &Path, planted: Planted, trace: Trace) -> Result<Tally, String> {
    let mut rng = Rng::with_seed(seed);
    let mix = Mix::drawn(&mut rng);
    let clocks = Clocks::drawn(&mut rng);
    let end = End::new(clocks.agent_monotonic());
    let clock = Clock::simulated(std::sync::Arc::clone(&clocks.relay));
    let mut world = World {
        rng,
        trace,
        tally: Tally { seeds: 1, ..Tally::default() },
        mix,
        network: Network::default(),
        relay: Relay::new(&folder.join("project"), clock, planted.relay),
        model: Model::default(),
        disk: Disk::default(),
        state: folder.join("agent"),
        life: 0,
        wipes: 0,
        serial: 0,
        sent: Vec::new(),
        step: 0,
        welcomed: false,
        clocks,
        asked: Duration::ZERO,
        frozen: BTreeMap::new(),
        slots: BTreeMap::new(),
        limits: BTreeMap::new(),
        spoiled: None,
        end,
        planted,
    };
    let mut fall = Fall::Kill;
    while fall != Fall::Over {
        fall = world.live(fall).map_err(|error| format!("step {}: {error}", world.step))?;
    }
    world.tally.steps = world.step;
    world.tally.jobs = world.model.jobs.len() as u64;
    world.tally.events = world.relay.book.events();
    Ok(world.tally)
}

impl World {
    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        self.trace.say(self.step, text);
    }

    /// The agent's id, which is part of its state.
    fn living(&self) -> String {
        format!("sim-{}", self.wipes)
    }

    /// Runs one agent process.
    fn live(&mut self, last: Fall) -> Result<Fall, String> {
        self.life += 1;
        let machine = std::sync::Arc::clone(&self.clocks.agent);
        let agent =
            AgentNode::open(&self.state, self.living(), machine).map_err(|e| format!("no spool: {e}"))?;
        self.frozen.remove(&Side::Agent);
        self.woke(&agent, last)?;
        self.end = End::new(self.clocks.agent_monotonic());
        self.run_actions(&agent)?;
        let fall = loop {
            self.step += 1;
            if self.step > self.mix.chaos {
                self.heal(&agent)?;
                break Fall::Over;
            }
            self.pass(&agent)?;
            let action = self.mix.draw(&mut self.rng);
            if action.side().is_some_and(|side| self.is_frozen(side)) {
                continue;
            }
            if let Some(fall) = self.act(action, &agent)? {
                break fall;
            }
        };
        let before = lengths(&self.state);
        drop(agent);
        if fall != Fall::Over {
            take_back(&before);
            self.fell(fall);
        }
        Ok(fall)
    }

    fn act(&mut self, action: Action, agent: &AgentNode) -> Result<Option<Fall>, String> {
        match action {
            Action::Append => self.append(agent),
            Action::Print => self.print(agent),
            Action::Finish => self.finish(agent),
            Action::EndLost => self.end_lost(agent),
            Action::Dial => self.dial(agent)?,
            Action::Send => return self.send(agent).map(|_| None),
            Action::Hear => return self.hear(agent).map(|_| None),
            Action::Receive => return self.receive().map(|_| None),
            Action::Commit => {
                let most = self.rng.usize(1..8);
                self.commit(most)?;
            }
            Action::Launch => self.launch()?,
            Action::Start => self.start_relay()?,
            Action::Cut => self.cut(agent)?,
            Action::LoseWay => self.lose_way(),
            Action::Replay => self.replay(),
            Action::KillRelay => self.kill_relay(),
            Action::PowerRelay => self.power_relay(),
            Action::KillAgent => return Ok(Some(Fall::Kill)),
            Action::PowerAgent => return Ok(Some(Fall::Power)),
            Action::WipeAgent => return Ok(Some(Fall::Wipe)),
            Action::FreezeAgent => self.freeze(Side::Agent),
            Action::FreezeRelay => self.freeze(Side::Relay),
            Action::SetClock => self.set_clock(),
            Action::SpoilRecord => self.spoil_record(),
            Action::SpoilSpool => self.spoil_spool(),
            Action::Cancel => self.cancel(),
            Action::LeaveRequest => self.leave_request(),
        }
        Ok(None)
    }

    pub(crate) fn start_relay(&mut self) -> Result<(), String> {
        if !self.relay.is_up() {
            self.say(|| "relay: starts".to_owned());
            let spoiled = self.spoiled.as_ref().map(|spoiled| &spoiled.job);
            self.relay.start(&self.model, spoiled)?;
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), String> {
        let waits = self.mix.has_schedule;
        let folder = FOLDERS[self.rng.usize(..FOLDERS.len())];
        let share = !waits || self.rng.u8(..4) == 0;
        let group = if waits { GROUPS[self.rng.usize(..GROUPS.len())] } else { None };
        let earlier: Vec<JobId> = self.model.jobs.keys().filter(|_| waits).cloned().collect();
        let after: Vec<JobId> = earlier.into_iter().filter(|_| self.rng.u8(..4) == 0).collect();
        if self.model.jobs.len() < self.mix.jobs
            && let Some(job) = self.relay.launch((folder, share), &after, group.map(|(name, _)| name))?
        {
            let shared = if share { ", shared" } else { "" };
            self.say(|| format!("launch {job} in {folder}{shared} after {after:?} in {group:?}"));
            let launched = Job::launched(self.clocks.now, folder, share);
            self.model.jobs.insert(job, launched.with_schedule(after, group));
        }
        Ok(())
    }

    /// Takes a frame at the relay. Returns true if there was one.
    pub(crate) fn receive(&mut self) -> Result<bool, String> {
        let served = self.network.served();
        if served.is_empty() {
            return Ok(false);
        }
        let id = served[self.rng.usize(..served.len())];
        let taken = self.relay.receive(id, &mut self.network)?;
        self.tally.frames += taken;
        if taken > 0 {
            self.say(|| format!("relay: takes a frame of {id}"));
        }
        Ok(taken > 0)
    }

    pub(crate) fn commit(&mut self, most: usize) -> Result<(), String> {
        if self.relay.is_busy() {
            let closed = self.relay.commit(most, &self.living(), &self.model, &mut self.network)?;
            self.say(|| format!("relay: commits at most {most}; closed: {closed:?}"));
        }
        Ok(())
    }

    fn cut(&mut self, agent: &AgentNode) -> Result<(), String> {
        let Some(id) = self.end.conn else { return Ok(()) };
        let Some(conn) = self.network.conn(id) else { return Ok(()) };
        let (up, down) = (conn.up.under_way(), conn.down.under_way());
        let (up, down) = (self.rng.usize(..=up), self.rng.usize(..=down));
        conn.up.end(up);
        conn.down.end(down);
        self.tally.cuts += 1;
        self.say(|| format!("{id} is cut; {up} frames up and {down} down still arrive"));
        // The agent may see the end long before the relay does, and reconnect while the old connection still delivers.
        if self.rng.bool() {
            self.take(agent, Input::Failed(LinkError::Closed("cut".to_owned())))?;
        }
        Ok(())
    }

    fn lose_way(&mut self) {
        let served = self.network.served();
        let Some(id) = served.last().copied() else { return };
        let up = self.rng.bool();
        if let Some(conn) = self.network.conn(id) {
            let way = if up { &mut conn.up } else { &mut conn.down };
            way.lose();
            self.say(|| format!("{id} loses what goes {}", if up { "up" } else { "down" }));
        }
    }

    /// Sends earlier frames once more, also out of order.
    fn replay(&mut self) {
        let serving = self.end.link.is_serving();
        let Some(conn) = self.end.conn.filter(|_| serving).and_then(|id| self.network.conn(id)) else {
            return;
        };
        if !self.sent.is_empty() {
            let at = self.rng.usize(..self.sent.len());
            conn.up.send(self.sent[at].clone());
            self.end.replayed = true;
            self.say(|| format!("frame {at} is sent once more"));
        }
    }

    pub(crate) fn kill_relay(&mut self) {
        if self.relay.is_up() {
            self.say(|| "relay: killed".to_owned());
            self.tally.kills += 1;
            self.relay.kill(&mut self.network);
            self.frozen.remove(&Side::Relay);
        }
    }

    fn power_relay(&mut self) {
        if self.relay.is_up() {
            let in_commit = self.rng.bool();
            self.say(|| format!("relay: power fails{}", if in_commit { " while it commits" } else { "" }));
            self.tally.power_losses += 1;
            self.frozen.remove(&Side::Relay);
            let spoiled = self.spoiled.as_ref().map(|spoiled| &spoiled.job);
            self.relay.lose_power(in_commit, &mut self.model, spoiled, &mut self.network, &mut self.rng);
        }
    }

    pub(crate) fn put(&mut self, id: ConnId, bytes: Vec<u8>) {
        if let Some(conn) = self.network.conn(id) {
            conn.up.send(bytes);
        }
    }
}
