//! A model of an engine with many boxes, in which relays, boxes and engine calls are killed at random times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::event::{EventBody, FinalState};
use common::ids::JobId;
use common::record::{JobRecord, State};
use common::wire::JobProgress;

use super::boxes_tests::connected;
use super::tests::{Scene, found_record, record};
use super::*;
use crate::container_state::{ContainerExit, ContainerState};
use crate::engine_kind::EngineKind;
use crate::job_box::{BoxId, FoundBox};
use crate::state_dir::tokens::HolderKind;

/// A box on the engine of the model.
#[derive(Debug)]
struct EngineBox {
    id: BoxId,
    is_running: bool,
    connection: Option<ConnectionNumber>,
    /// True once the agent has the job in its spool.
    has_job: bool,
    /// Number of times that the job was begun.
    runs: u32,
    outcome: Option<FinalState>,
    was_delivered: bool,
}

/// Something that happens later, in any order.
#[derive(Debug)]
enum Pending {
    Start(BoxId),
    Restart(BoxId),
    Remove(BoxId),
    Input(Input),
    Accept(JobId, String),
}

/// A bug that the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlantedBug {
    /// A list of boxes counts as new, although boxes were started since.
    TrustsOldLists,
    /// Removals are reported as done, and nothing is removed.
    LosesRemovals,
    /// A start creates a box although there is one.
    StartsTwice,
}

/// An engine, a registry and the relay in between.
struct Model {
    bug: Option<PlantedBug>,
    random: fastrand::Rng,
    scene: Scene,
    records: BTreeMap<JobId, JobRecord>,
    boxes: BTreeMap<String, EngineBox>,
    pending: Vec<Pending>,
    connections: ConnectionNumber,
    /// Number of runs of each job, in all its boxes.
    runs: BTreeMap<JobId, u32>,
    /// Jobs whose boxes were killed or removed.
    harmed: BTreeSet<JobId>,
}

impl Model {
    fn new(seed: u64, bug: Option<PlantedBug>) -> Self {
        let mut model = Self {
            bug,
            random: fastrand::Rng::with_seed(seed),
            scene: Scene::with_settings(EngineKind::Docker, true),
            records: BTreeMap::new(),
            boxes: BTreeMap::new(),
            pending: Vec::new(),
            connections: 0,
            runs: BTreeMap::new(),
            harmed: BTreeSet::new(),
        };
        model.start_relay();
        model
    }

    /// Starts a relay, whose predecessor was killed. Calls of the engine that it began happen or not, unseen.
    fn start_relay(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Start(id) if self.random.bool() => self.start_engine_box(id),
                Pending::Remove(id) if self.random.bool() => drop(self.boxes.remove(&id.agent())),
                _ => {}
            }
        }
        self.boxes.values_mut().for_each(|found| found.connection = None);
        let now = self.scene.now;
        self.scene = Scene::with_settings(EngineKind::Docker, true);
        self.scene.now = now;
        let active = self.records.values().filter(|record| !record.state.is_final()).cloned().collect();
        self.handle(Input::RegistryOpened(active));
        self.handle(Input::Listening);
        self.pending.push(Pending::Input(connected("p", 0, Vec::new(), HolderKind::Platform)));
        self.list_boxes();
    }

    fn list_boxes(&mut self) {
        let state = |is_running| {
            if is_running {
                return ContainerState::Running;
            }
            let finished_at = "then".to_owned();
            ContainerState::Exited { exit_code: 137, oom_killed: false, memory_limit: None, finished_at }
        };
        let boxes = self.boxes.values();
        let found =
            boxes.map(|found| FoundBox { id: found.id.clone(), state: state(found.is_running) }).collect();
        let is_trusted = self.bug == Some(PlantedBug::TrustsOldLists);
        let asked_at = self.scene.now + if is_trusted { Duration::from_secs(3600) } else { Duration::ZERO };
        self.pending.push(Pending::Input(Input::BoxesListed { found, asked_at }));
    }

    fn handle(&mut self, input: Input) {
        let effects = self.scene.core.handle(input, self.scene.now);
        for effect in effects {
            match effect {
                Effect::Engine(EngineEffect::StartBox(id)) => self.pending.push(Pending::Start(id)),
                Effect::Engine(EngineEffect::RestartBox(id)) => self.pending.push(Pending::Restart(id)),
                Effect::Engine(EngineEffect::RemoveBox(id)) => self.pending.push(Pending::Remove(id)),
                Effect::Engine(EngineEffect::StartPlatform { .. }) => {
                    self.pending.push(Pending::Input(Input::PlatformStarted(Ok(()))));
                }
                Effect::Offer { job, agent, connection: Some(_), .. } => {
                    self.pending.push(Pending::Accept(job, agent.to_string()));
                }
                Effect::Record { job, body: EventBody::Finished { state, .. } } => self.end(&job, state),
                _ => {}
            }
        }
    }

    fn start_engine_box(&mut self, id: BoxId) {
        if self.bug == Some(PlantedBug::StartsTwice) {
            self.disconnect(&id.agent());
            self.boxes.remove(&id.agent());
        }
        let found = self.boxes.entry(id.agent()).or_insert_with(|| EngineBox {
            id,
            is_running: false,
            connection: None,
            has_job: false,
            runs: 0,
            outcome: None,
            was_delivered: false,
        });
        if !found.is_running && found.has_job {
            // The agent reports the interrupted job.
            found.outcome.get_or_insert(FinalState::Failed);
        }
        found.is_running = true;
    }

    fn launch(&mut self, number: usize) {
        let record = record(&format!("j#{number}"), State::Queued, None);
        self.records.insert(record.job.clone(), record.clone());
        self.handle(found_record(record));
    }

    /// Records the end of a job, unless it has one.
    fn end(&mut self, job: &JobId, state: FinalState) {
        let Some(record) = self.records.get_mut(job).filter(|record| !record.state.is_final()) else {
            return;
        };
        record.state = state.into();
        let changed = BTreeMap::from([(job.clone(), record.clone())]);
        self.pending.push(Pending::Input(Input::RecordsChanged(changed)));
    }

    /// Lets one pending thing happen.
    fn settle_one(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let index = self.random.usize(..self.pending.len());
        match self.pending.swap_remove(index) {
            Pending::Input(Input::Connected(mut connection)) => {
                self.connections += 1;
                connection.number = self.connections;
                self.handle(Input::Connected(connection));
            }
            Pending::Input(input) => self.handle(input),
            Pending::Start(id) => {
                let agent = id.agent().as_str().into();
                let fails = self.random.u8(..) < 20;
                if fails {
                    self.harmed.insert(id.job().clone());
                }
                let result = if fails {
                    Err("hiccup".to_owned().into())
                } else {
                    self.start_engine_box(id);
                    Ok(())
                };
                self.handle(Input::BoxStarted { agent, result });
            }
            Pending::Restart(id) => {
                let agent = id.agent().as_str().into();
                let exists = self.boxes.contains_key(&id.agent());
                let result = if exists {
                    {
                        self.start_engine_box(id);
                        Ok(())
                    }
                } else {
                    Err("removed".to_owned().into())
                };
                self.handle(Input::BoxStarted { agent, result });
            }
            Pending::Remove(id) => {
                if self.bug != Some(PlantedBug::LosesRemovals) {
                    self.boxes.remove(&id.agent());
                }
                let agent = id.agent().as_str().into();
                self.handle(Input::BoxRemoved { agent, result: Ok(()) });
            }
            Pending::Accept(job, agent) => self.accept(&job, &agent),
        }
        true
    }

    fn accept(&mut self, job: &JobId, agent: &str) {
        let Some(found) = self.boxes.get_mut(agent).filter(|found| found.connection.is_some()) else {
            return;
        };
        assert_eq!(found.id.job(), job, "a box is offered its own job alone");
        let Some(record) = self.records.get_mut(job).filter(|record| !record.state.is_final()) else {
            return;
        };
        if !found.has_job {
            found.has_job = true;
            found.runs += 1;
            *self.runs.entry(job.clone()).or_default() += 1;
        }
        (record.state, record.epoch, record.agent) =
            (State::Running, found.id.epoch(), Some(agent.to_owned()));
        let changed = BTreeMap::from([(job.clone(), record.clone())]);
        self.handle(Input::RecordsChanged(changed));
    }

    /// Lets the agents connect, work, deliver and exit, each with some probability.
    fn run_agents(&mut self, probability: f64) {
        for agent in self.boxes.keys().cloned().collect::<Vec<_>>() {
            if self.random.f64() > probability {
                continue;
            }
            let Some(found) = self.boxes.get_mut(&agent).filter(|found| found.is_running) else { continue };
            let job = found.id.job().clone();
            match (found.connection, found.has_job, found.outcome) {
                (None, has_job, _) => {
                    self.connections += 1;
                    found.connection = Some(self.connections);
                    let epoch = found.id.epoch();
                    let held = has_job && !found.was_delivered;
                    let is_open = self.records.get(&job).is_some_and(|record| !record.state.is_final());
                    let held = (held && is_open).then_some(JobProgress { job, epoch, last_seq: 1 });
                    let jobs = held.into_iter().collect();
                    self.handle(connected(&agent, self.connections, jobs, HolderKind::Box));
                }
                (Some(_), true, None) => found.outcome = Some(FinalState::Completed),
                (Some(_), true, Some(outcome)) if !found.was_delivered => {
                    found.was_delivered = true;
                    self.end(&job, outcome);
                }
                (Some(_), true, Some(_)) => self.exit(&agent, 0),
                (Some(_), false, _) => {}
            }
        }
    }

    fn exit(&mut self, agent: &str, code: i32) {
        let Some(found) = self.boxes.get_mut(agent) else { return };
        found.is_running = false;
        self.disconnect(agent);
        let exit = ContainerExit::from_exit_code(Some(code), false);
        let change = BoxChange::Exited(exit);
        self.pending.push(Pending::Input(Input::BoxChanged { agent: agent.into(), change }));
    }

    fn disconnect(&mut self, agent: &str) {
        let Some(number) = self.boxes.get_mut(agent).and_then(|found| found.connection.take()) else {
            return;
        };
        let connection_id = ConnectionId { agent: agent.into(), number };
        self.handle(Input::Disconnected { connection_id, reason: "it was cut".to_owned() });
    }

    /// Does harm of one kind.
    fn harm(&mut self) {
        let agents: Vec<String> = self.boxes.keys().cloned().collect();
        let agent = self.random.choice(&agents).cloned();
        match (self.random.u8(..8), agent) {
            (0, _) => self.start_relay(),
            (1, Some(agent)) => {
                self.harmed.extend(self.boxes.get(&agent).map(|found| found.id.job().clone()));
                self.exit(&agent, 137);
            }
            (2, Some(agent)) => {
                self.disconnect(&agent);
                self.harmed.extend(self.boxes.remove(&agent).map(|found| found.id.job().clone()));
                let change = BoxChange::Removed;
                let agent = agent.as_str().into();
                self.pending.push(Pending::Input(Input::BoxChanged { agent, change }));
            }
            (3, Some(agent)) => self.disconnect(&agent),
            (4, _) => self.list_boxes(),
            _ => {}
        }
    }

    fn advance(&mut self, time: Duration) {
        self.scene.now += time;
        self.handle(Input::Tick);
    }
}

/// Runs the model with one seed. Returns what went wrong.
fn run_model(seed: u64, bug: Option<PlantedBug>) -> Result<(), String> {
    let mut model = Model::new(seed, bug);
    for step in 0..400 {
        if step % 20 == 0 && step < 200 {
            model.launch(step / 20 + 1);
        }
        if model.random.u8(..) < 25 {
            model.harm();
        }
        model.settle_one();
        model.run_agents(0.3);
        model.advance(Duration::from_millis(200));
    }
    for _ in 0..200 {
        while model.settle_one() {}
        model.run_agents(1.0);
        model.advance(Duration::from_secs(1));
    }
    if !model.boxes.is_empty() {
        return Err(format!("boxes are left: {:?}", model.boxes));
    }
    for (job, record) in &model.records {
        let runs = model.runs.get(job).copied().unwrap_or(0);
        let may_fail = model.harmed.contains(job);
        if !record.state.is_final() || runs > 1 || (record.state != State::Completed && !may_fail) {
            return Err(format!("{job} is {:?} after {runs} runs", record.state));
        }
    }
    Ok(())
}

#[test]
fn no_job_is_lost_and_no_box_is_left_whatever_is_killed_when() {
    for seed in 0..300 {
        run_model(seed, None).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
}

#[test]
fn the_model_finds_planted_bugs() {
    for bug in [PlantedBug::TrustsOldLists, PlantedBug::LosesRemovals, PlantedBug::StartsTwice] {
        let is_found = (0..300).any(|seed| run_model(seed, Some(bug)).is_err());
        assert!(is_found, "{bug:?}");
    }
}
