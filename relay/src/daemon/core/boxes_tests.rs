//! Tests of boxes: single cases, and a model of an engine with many boxes, in which relays, boxes and engine calls are
//! killed at random times.

use super::tests::{Scene, found_record, id, record};
use super::*;
use crate::container_state::{ContainerExit, ContainerState};
use crate::engine_kind::EngineKind;
use crate::job_box::{BoxId, FoundBox};
use crate::state_dir::tokens::HolderKind;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::event::{EventBody, FinalState, Isolation};
use common::ids::JobId;
use common::record::{JobRecord, State};
use common::wire::{Hello, JobProgress, Platform};

fn box_of(job: &str) -> BoxId {
    let record = record(job, State::Queued, None);
    BoxId::of_run(&record.job, record.created_at, 1)
}

fn connected(agent: &str, number: ConnectionNumber, jobs: Vec<JobProgress>, holder: HolderKind) -> Input {
    let platform =
        Platform { system: "linux".into(), isolation: Isolation::None, codex: None, codex_problem: None };
    Input::Connected(Connection { number, hello: Hello::new(agent, 2, platform, jobs), holder })
}

fn box_connected(job: &str, number: ConnectionNumber) -> Input {
    connected(&box_of(job).agent(), number, Vec::new(), HolderKind::Box)
}

fn box_started(job: &str, result: Result<(), String>) -> Input {
    Input::BoxStarted { agent: box_of(job).agent().as_str().into(), result }
}

fn box_changed(job: &str, change: BoxChange) -> Input {
    Input::BoxChanged { agent: box_of(job).agent().as_str().into(), change }
}

fn record_changed(job: &str, state: State) -> Input {
    let record = record(job, state, Some(&box_of(job).agent()));
    Input::RecordsChanged(BTreeMap::from([(id(job), record)]))
}

/// A core that gives each job a box, with a connected platform of two slots, and job `a#1`, whose box is started.
fn scene_with_starting_box() -> Scene {
    let mut scene = Scene::with_settings(EngineKind::Docker, true);
    scene.core.handle(Input::RegistryOpened(Vec::new()), scene.now);
    scene.core.handle(connected("p", 1, Vec::new(), HolderKind::Platform), scene.now);
    scene.core.handle(found_record(record("a#1", State::Queued, None)), scene.now);
    let listed = Input::BoxesListed { found: Vec::new(), asked_at: scene.now };
    let effects = scene.core.handle(listed, scene.now);
    assert_eq!(effects, [Effect::Engine(EngineEffect::StartBox(box_of("a#1")))]);
    scene
}

/// The same, with the job running in its box on connection 2.
fn scene_with_running_box() -> Scene {
    let mut scene = scene_with_starting_box();
    scene.core.handle(box_started("a#1", Ok(())), scene.now);
    scene.core.handle(box_connected("a#1", 2), scene.now);
    scene.core.handle(record_changed("a#1", State::Running), scene.now);
    scene
}

fn removal(job: &str) -> String {
    format!("{:?}", Effect::Engine(EngineEffect::RemoveBox(box_of(job))))
}

fn start(job: &str) -> String {
    format!("{:?}", Effect::Engine(EngineEffect::StartBox(box_of(job))))
}

#[test]
fn the_agent_of_a_box_is_offered_its_own_job_alone() {
    let mut scene = scene_with_starting_box();
    scene.core.handle(found_record(record("b#1", State::Queued, None)), scene.now);
    scene.core.handle(box_started("a#1", Ok(())), scene.now);
    let agent = box_of("a#1").agent();
    scene.check(box_connected("a#1", 2), &[&format!("offer a#1, run 1, to {agent} on Some(2)")]);
    // The second of the two slots was given to b#1, and a third job waits.
    scene.check(found_record(record("c#1", State::Queued, None)), &["adopt c#1"]);
}

#[test]
fn a_box_is_removed_once_its_agent_has_left_after_the_end_of_the_job() {
    let mut scene = scene_with_running_box();
    scene.check(record_changed("a#1", State::Completed), &["notify a#1"]);
    let exit = ContainerExit::from_exit_code(Some(0), false);
    scene.check(box_changed("a#1", BoxChange::Exited(exit)), &[&removal("a#1")]);
    let agent = box_of("a#1").agent().as_str().into();
    scene.check(Input::BoxRemoved { agent, result: Ok(()) }, &[]);
}

#[test]
fn a_box_whose_agent_does_not_leave_is_removed_after_a_minute() {
    let mut scene = scene_with_running_box();
    scene.core.handle(record_changed("a#1", State::Completed), scene.now);
    scene.advance(Duration::from_secs(59)).check(Input::Tick, &[]);
    scene.advance(Duration::from_secs(1)).check(Input::Tick, &[&removal("a#1")]);
}

#[test]
fn a_cancelled_job_ends_at_once_and_its_box_is_removed_after_its_start() {
    let mut scene = scene_with_starting_box();
    let cancelled = record("a#1", State::Cancelled, None);
    let changed = Input::RecordsChanged(BTreeMap::from([(id("a#1"), cancelled)]));
    scene.check(changed, &["notify a#1"]);
    scene.check(box_started("a#1", Ok(())), &[&removal("a#1")]);
}

#[test]
fn a_box_that_can_t_be_started_is_tried_three_times() {
    let mut scene = scene_with_starting_box();
    let message = "the job's container could not be started: no space; it is tried again in 10 s".to_owned();
    let warning = Effect::Record { job: id("a#1"), body: EventBody::Warning { message } };
    for _ in 0..2 {
        scene.check(box_started("a#1", Err("no space".to_owned())), &[&format!("{warning:?}")]);
        scene.advance(Duration::from_secs(10)).check(Input::Tick, &[&start("a#1")]);
    }
    scene.check(
        box_started("a#1", Err("no space".to_owned())),
        &["record a#1: Failed Some(SpawnFailed)", &removal("a#1")],
    );
}

#[test]
fn an_agent_that_does_not_connect_fails_the_job() {
    let mut scene = scene_with_starting_box();
    scene.core.handle(box_started("a#1", Ok(())), scene.now);
    scene
        .advance(Duration::from_secs(60))
        .check(Input::Tick, &["record a#1: Failed Some(StartTimeout)", &removal("a#1")]);
}

#[test]
fn a_box_that_died_is_started_once_more_to_deliver_what_is_left() {
    let mut scene = scene_with_running_box();
    let exit = |at: &str| {
        let exit = ContainerExit::from_exit_code(Some(137), false);
        BoxChange::Exited(ContainerExit { finished_at: Some(at.to_owned()), ..exit })
    };
    let lost = "record a#1: lost: the job's container exited with code 137: it was killed";
    scene.check(box_changed("a#1", exit("then")), &[&start("a#1"), lost]);
    scene.check(box_changed("a#1", exit("then")), &[]);
    scene.check(Input::Register(box_of("a#1").agent().as_str().into()), &["admit with its cause"]);
    scene.core.handle(box_started("a#1", Ok(())), scene.now);
    scene.check(box_changed("a#1", exit("later")), &["record a#1: Failed Some(ContainerExited)"]);
}

#[test]
fn a_box_without_an_unfinished_job_is_removed_and_a_job_without_its_box_ends() {
    let mut scene = Scene::with_settings(EngineKind::Docker, true);
    let running = record("a#1", State::Running, Some(&box_of("a#1").agent()));
    scene.core.handle(Input::RegistryOpened(vec![running]), scene.now);
    let found = vec![FoundBox { id: box_of("z#1"), state: ContainerState::Running }];
    scene.check(
        Input::BoxesListed { found, asked_at: scene.now },
        &[&removal("z#1"), "record a#1: Failed Some(ContainerExited)"],
    );
}

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
    Remove(BoxId),
    Input(Input),
    Accept(JobId, String),
}

/// An engine, a registry and the relay in between.
struct Model {
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
    fn new(seed: u64) -> Self {
        let mut model = Self {
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
                Pending::Start(id) if self.random.bool() => drop(self.start_engine_box(id)),
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
        self.pending.push(Pending::Input(Input::BoxesListed { found, asked_at: self.scene.now }));
    }

    fn handle(&mut self, input: Input) {
        let effects = self.scene.core.handle(input, self.scene.now);
        for effect in effects {
            match effect {
                Effect::Engine(EngineEffect::StartBox(id)) => self.pending.push(Pending::Start(id)),
                Effect::Engine(EngineEffect::RemoveBox(id)) => self.pending.push(Pending::Remove(id)),
                Effect::Engine(EngineEffect::StartPlatform) => {
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

    fn start_engine_box(&mut self, id: BoxId) -> Result<(), String> {
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
        Ok(())
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
                let result = if fails { Err("hiccup".to_owned()) } else { self.start_engine_box(id) };
                self.handle(Input::BoxStarted { agent, result });
            }
            Pending::Remove(id) => {
                self.boxes.remove(&id.agent());
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
                    let held = (held && is_open).then(|| JobProgress { job, epoch, last_seq: 1 });
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

#[test]
fn no_job_is_lost_and_no_box_is_left_whatever_is_killed_when() {
    for seed in 0..300 {
        let mut model = Model::new(seed);
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
        assert!(model.boxes.is_empty(), "seed {seed}: {:?}", model.boxes);
        for (job, record) in &model.records {
            assert!(record.state.is_final(), "seed {seed}: {job} is {:?}", record.state);
            let runs = model.runs.get(job).copied().unwrap_or(0);
            assert!(runs <= 1, "seed {seed}: {job} ran {runs} times");
            let is_completed = record.state == State::Completed;
            assert!(is_completed || model.harmed.contains(job), "seed {seed}: {job} is {:?}", record.state);
        }
    }
}
