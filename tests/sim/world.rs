//! Play of one seed: an agent, a relay, a network between them, and all faults of the three.
//!
//! A play has two phases. In the chaos, each step executes one random action; each seed has its own mix of faults.
//! In the healing there are no more faults, and everything must be delivered within a bounded number of rounds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::ids::JobId;
use fastrand::Rng;
use relay::internals::{Clock, LIMITED_GROUPS};
use worker_agent::internals::{Input, LinkError};

use crate::agent_node::AgentNode;
use crate::bad_files::BadRecord;
use crate::clocks::{Clocks, Side};
use crate::disk::{Disk, lengths, truncate_grown_files};
use crate::limits::Limit;
use crate::mix::{Action, Mix};
use crate::model::{Job, Model};
use crate::network::{ConnId, Network};
use crate::planted::PlantedBug;
use crate::relay::Relay;
use crate::trace::{Tally, Trace};
use crate::uplink::AgentEnd;

/// Time that passes in each step of the simulation, before the step's action.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// Folders that jobs work in: the first contains the second.
const FOLDERS: [&str; 3] = ["/w", "/w/sub", "/x"];
/// Groups of jobs, each with the number of its jobs that may run at once.
const GROUPS: [Option<(&str, u32)>; 4] =
    [None, Some(("free", u32::MAX)), Some(LIMITED_GROUPS[0]), Some(LIMITED_GROUPS[1])];

/// State of one seed's simulation, except the agent's spool.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) mix: Mix,
    pub(crate) network: Network,
    pub(crate) relay: Relay,
    pub(crate) model: Model,
    /// Synced lengths of the agent's files.
    pub(crate) disk: Disk,
    pub(crate) state_dir: PathBuf,
    /// Number of the current agent process, from 1.
    pub(crate) agent_process: u32,
    /// Number of times that the state directory was removed.
    pub(crate) wipes: u32,
    /// Serial number of the newest event or output; makes each of them unique.
    pub(crate) serial: i32,
    /// Frames that the agent has sent and that may be repeated.
    pub(crate) sent_frames: Vec<Vec<u8>>,
    pub(crate) step: u64,
    /// True once this agent process was welcomed.
    pub(crate) is_welcomed: bool,
    pub(crate) clocks: Clocks,
    /// Real time ([`Clocks::now`]) of the agent's last hello.
    pub(crate) hello_sent_at: Duration,
    /// Frozen sides, and the real time at which each continues.
    pub(crate) frozen: BTreeMap<Side, Duration>,
    /// Jobs that use a slot of the agent; for a worker that is being ended, the time at which its slot becomes free.
    pub(crate) slots: BTreeMap<JobId, Option<Duration>>,
    pub(crate) limits: BTreeMap<JobId, Limit>,
    /// The record that was replaced and not yet restored.
    pub(crate) bad_record: Option<BadRecord>,
    /// The agent's end of its connection.
    pub(crate) agent_end: AgentEnd,
    pub(crate) planted_bug: PlantedBug,
}

/// Ways in which an agent process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentExit {
    Killed,
    PowerLost,
    /// The agent's state directory is removed.
    Wiped,
    /// Everything is delivered: the seed is done.
    Done,
}

/// Plays a seed to its end.
pub(crate) fn play(seed: u64, folder: &Path, planted_bug: PlantedBug, trace: Trace) -> Result<Tally, String> {
    let mut rng = Rng::with_seed(seed);
    let mix = Mix::random(&mut rng);
    let clocks = Clocks::random(&mut rng);
    let agent_end = AgentEnd::new(clocks.agent_monotonic());
    let clock = Clock::simulated(std::sync::Arc::clone(&clocks.relay));
    let mut world = World {
        rng,
        trace,
        tally: Tally { seeds: 1, ..Tally::default() },
        mix,
        network: Network::default(),
        relay: Relay::new(&folder.join("project"), clock, planted_bug.relay),
        model: Model::default(),
        disk: Disk::default(),
        state_dir: folder.join("agent"),
        agent_process: 0,
        wipes: 0,
        serial: 0,
        sent_frames: Vec::new(),
        step: 0,
        is_welcomed: false,
        clocks,
        hello_sent_at: Duration::ZERO,
        frozen: BTreeMap::new(),
        slots: BTreeMap::new(),
        limits: BTreeMap::new(),
        bad_record: None,
        agent_end,
        planted_bug,
    };
    let mut exit = AgentExit::Killed;
    while exit != AgentExit::Done {
        exit = world.run_agent_process(exit).map_err(|error| format!("step {}: {error}", world.step))?;
    }
    world.tally.steps = world.step;
    world.tally.jobs = world.model.jobs.len() as u64;
    world.tally.events = world.relay.log_checker.agent_events();
    Ok(world.tally)
}

impl World {
    pub(crate) fn trace_line(&self, text: impl FnOnce() -> String) {
        self.trace.write_line(self.step, text);
    }

    /// Returns the agent's id, which changes when the agent's state directory is removed.
    fn agent_id(&self) -> String {
        format!("sim-{}", self.wipes)
    }

    /// Runs one agent process to its end; `last_exit` is the end of the process before.
    fn run_agent_process(&mut self, last_exit: AgentExit) -> Result<AgentExit, String> {
        self.agent_process += 1;
        let machine_clocks = std::sync::Arc::clone(&self.clocks.agent);
        let agent = AgentNode::open(&self.state_dir, self.agent_id(), machine_clocks)
            .map_err(|e| format!("no spool: {e}"))?;
        self.frozen.remove(&Side::Agent);
        self.check_spool_after_start(&agent, last_exit)?;
        self.agent_end = AgentEnd::new(self.clocks.agent_monotonic());
        self.run_actions(&agent)?;
        let exit = loop {
            self.step += 1;
            if self.step > self.mix.chaos_steps {
                self.heal(&agent)?;
                break AgentExit::Done;
            }
            self.advance_time(&agent)?;
            let action = self.mix.draw_action(&mut self.rng);
            if action.side().is_some_and(|side| self.is_frozen(side)) {
                continue;
            }
            if let Some(exit) = self.execute_action(action, &agent)? {
                break exit;
            }
        };
        let before = lengths(&self.state_dir);
        drop(agent);
        if exit != AgentExit::Done {
            truncate_grown_files(&before);
            self.apply_agent_exit(exit);
        }
        Ok(exit)
    }

    fn execute_action(&mut self, action: Action, agent: &AgentNode) -> Result<Option<AgentExit>, String> {
        match action {
            Action::ReportEvents => self.report_events(agent),
            Action::PrintOutput => self.print_output(agent),
            Action::FinishRun => self.finish_run(agent),
            Action::EndLostRun => self.end_lost_run(agent),
            Action::Connect => self.connect(agent)?,
            Action::Send => return self.send(agent).map(|_| None),
            Action::ReceiveAtAgent => return self.receive_at_agent(agent).map(|_| None),
            Action::ReceiveAtRelay => return self.receive_at_relay().map(|_| None),
            Action::Commit => {
                let max_commands = self.rng.usize(1..8);
                self.commit(max_commands)?;
            }
            Action::Launch => self.launch()?,
            Action::Start => self.start_relay()?,
            Action::CutConnection => self.cut_connection(agent)?,
            Action::LoseDirection => self.lose_direction(),
            Action::Replay => self.replay(),
            Action::KillRelay => self.kill_relay(),
            Action::PowerRelay => self.power_relay(),
            Action::KillAgent => return Ok(Some(AgentExit::Killed)),
            Action::PowerAgent => return Ok(Some(AgentExit::PowerLost)),
            Action::WipeAgent => return Ok(Some(AgentExit::Wiped)),
            Action::FreezeAgent => self.freeze(Side::Agent),
            Action::FreezeRelay => self.freeze(Side::Relay),
            Action::SetClock => self.set_clock(),
            Action::ReplaceRecord => self.replace_record(),
            Action::DamageSpool => self.damage_spool(),
            Action::Cancel => self.cancel(),
            Action::LeaveRequest => self.leave_request(),
        }
        Ok(None)
    }

    pub(crate) fn start_relay(&mut self) -> Result<(), String> {
        if !self.relay.is_up() {
            self.trace_line(|| "relay: starts".to_owned());
            let bad_job = self.bad_record.as_ref().map(|bad_record| &bad_record.job);
            self.relay.start(&self.model, bad_job)?;
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), String> {
        let has_schedule = self.mix.has_schedule;
        let folder = FOLDERS[self.rng.usize(..FOLDERS.len())];
        let shares_folder = !has_schedule || self.rng.u8(..4) == 0;
        let group = if has_schedule { GROUPS[self.rng.usize(..GROUPS.len())] } else { None };
        let earlier: Vec<JobId> = self.model.jobs.keys().filter(|_| has_schedule).cloned().collect();
        let after: Vec<JobId> = earlier.into_iter().filter(|_| self.rng.u8(..4) == 0).collect();
        if self.model.jobs.len() < self.mix.max_jobs
            && let Some(job) =
                self.relay.launch((folder, shares_folder), &after, group.map(|(name, _)| name))?
        {
            let shared = if shares_folder { ", shared" } else { "" };
            self.trace_line(|| format!("launch {job} in {folder}{shared} after {after:?} in {group:?}"));
            let launched = Job::launched(self.clocks.now, folder, shares_folder);
            self.model.jobs.insert(job, launched.with_schedule(after, group));
        }
        Ok(())
    }

    /// Lets the relay receive the next frame of a random connection. Returns true if there was a frame.
    pub(crate) fn receive_at_relay(&mut self) -> Result<bool, String> {
        let served = self.network.served_connections();
        if served.is_empty() {
            return Ok(false);
        }
        let id = served[self.rng.usize(..served.len())];
        let taken = self.relay.receive(id, &mut self.network)?;
        self.tally.frames += taken;
        if taken > 0 {
            self.trace_line(|| format!("relay: takes a frame of {id}"));
        }
        Ok(taken > 0)
    }

    /// Lets the relay's writer carry out at most `max_commands` of the commands that wait for it.
    pub(crate) fn commit(&mut self, max_commands: usize) -> Result<(), String> {
        if self.relay.is_busy() {
            let closed = self.relay.commit(max_commands, &self.agent_id(), &self.model, &mut self.network)?;
            self.trace_line(|| format!("relay: commits at most {max_commands}; closed: {closed:?}"));
        }
        Ok(())
    }

    fn cut_connection(&mut self, agent: &AgentNode) -> Result<(), String> {
        let Some(id) = self.agent_end.conn else { return Ok(()) };
        let Some(conn) = self.network.conn(id) else { return Ok(()) };
        let (up, down) = (conn.up.frames_in_flight(), conn.down.frames_in_flight());
        let (up, down) = (self.rng.usize(..=up), self.rng.usize(..=down));
        conn.up.end(up);
        conn.down.end(down);
        self.tally.cuts += 1;
        self.trace_line(|| format!("{id} is cut; {up} frames up and {down} down still arrive"));
        // The agent may see the end long before the relay does, and reconnect while the old connection still delivers.
        if self.rng.bool() {
            self.handle_input(agent, Input::Failed(LinkError::Closed("cut".to_owned())))?;
        }
        Ok(())
    }

    fn lose_direction(&mut self) {
        let served = self.network.served_connections();
        let Some(id) = served.last().copied() else { return };
        let up = self.rng.bool();
        if let Some(conn) = self.network.conn(id) {
            let direction = if up { &mut conn.up } else { &mut conn.down };
            direction.lose_frames();
            self.trace_line(|| format!("{id} loses what goes {}", if up { "up" } else { "down" }));
        }
    }

    /// Sends a random earlier frame to the relay once more.
    fn replay(&mut self) {
        let serving = self.agent_end.link.is_serving();
        let Some(conn) = self.agent_end.conn.filter(|_| serving).and_then(|id| self.network.conn(id)) else {
            return;
        };
        if !self.sent_frames.is_empty() {
            let at = self.rng.usize(..self.sent_frames.len());
            conn.up.send(self.sent_frames[at].clone());
            self.agent_end.has_repeated_frames = true;
            self.trace_line(|| format!("frame {at} is sent once more"));
        }
    }

    pub(crate) fn kill_relay(&mut self) {
        if self.relay.is_up() {
            self.trace_line(|| "relay: killed".to_owned());
            self.tally.kills += 1;
            self.relay.kill(&mut self.network);
            self.frozen.remove(&Side::Relay);
        }
    }

    fn power_relay(&mut self) {
        if self.relay.is_up() {
            let in_commit = self.rng.bool();
            self.trace_line(|| {
                format!("relay: power fails{}", if in_commit { " while it commits" } else { "" })
            });
            self.tally.power_losses += 1;
            self.frozen.remove(&Side::Relay);
            let bad_job = self.bad_record.as_ref().map(|bad_record| &bad_record.job);
            self.relay.lose_power(in_commit, &mut self.model, bad_job, &mut self.network, &mut self.rng);
        }
    }

    pub(crate) fn send_to_relay(&mut self, id: ConnId, bytes: Vec<u8>) {
        if let Some(conn) = self.network.conn(id) {
            conn.up.send(bytes);
        }
    }
}
