//! Tests of boxes: one case each.

use std::collections::BTreeMap;
use std::time::Duration;

use common::event::{EventBody, FailureKind, Isolation};
use common::hold::{Hold, OnQuota};
use common::job::Runner;
use common::record::{JobRecord, State};
use common::wire::{Hello, JobProgress, Platform};

use super::tests::{Scene, found_record, id, record};
use super::*;
use crate::container_state::{ContainerExit, ContainerState};
use crate::engine_kind::EngineKind;
use crate::job_box::{BoxFailure, BoxId, FoundBox};
use crate::registry::requests::DaemonRequest;
use crate::state_dir::tokens::HolderKind;

fn box_of(job: &str) -> BoxId {
    let record = record(job, State::Queued, None);
    BoxId::of_run(&record.job, record.created_at, 1)
}

pub(super) fn connected(
    agent: &str,
    number: ConnectionNumber,
    jobs: Vec<JobProgress>,
    holder: HolderKind,
) -> Input {
    let platform =
        Platform { system: "linux".into(), isolation: Isolation::None, codex: None, codex_problem: None };
    Input::Connected(Connection { number, hello: Hello::new(agent, 2, platform, jobs), holder })
}

fn box_connected(job: &str, number: ConnectionNumber) -> Input {
    connected(&box_of(job).agent(), number, Vec::new(), HolderKind::Box)
}

fn box_started(job: &str, result: Result<(), String>) -> Input {
    let result = result.map_err(BoxFailure::from);
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
fn a_box_that_can_never_be_started_is_tried_once() {
    let mut scene = scene_with_starting_box();
    let failure = BoxFailure { reason: "no list of hosts".to_owned(), is_permanent: true };
    let agent = box_of("a#1").agent().as_str().into();
    scene.check(
        Input::BoxStarted { agent, result: Err(failure) },
        &["record a#1: Failed Some(SpawnFailed)", &removal("a#1")],
    );
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
    let restart = format!("{:?}", Effect::Engine(EngineEffect::RestartBox(box_of("a#1"))));
    scene.check(box_changed("a#1", exit("then")), &[&restart, lost]);
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

#[test]
fn a_job_that_pauses_in_its_box_frees_its_slot_until_it_goes_on() {
    let mut scene = scene_with_running_box();
    let start_of = |job: &str, scene: &mut Scene| {
        let effects = scene.core.handle(found_record(record(job, State::Queued, None)), scene.now);
        effects.contains(&Effect::Engine(EngineEffect::StartBox(box_of(job))))
    };
    let codex_job = |state| {
        let agent = (state == State::Running).then(|| box_of("k#1").agent());
        let record = record("k#1", state, agent.as_deref());
        JobRecord { runner: Runner::Codex, on_quota: OnQuota::Wait, ..record }
    };
    let changed = |record: JobRecord| Input::RecordsChanged([(id("k#1"), record)].into());
    let running = codex_job(State::Running);
    scene.core.handle(found_record(codex_job(State::Queued)), scene.now);
    scene.core.handle(box_started("k#1", Ok(())), scene.now);
    scene.core.handle(box_connected("k#1", 3), scene.now);
    scene.core.handle(changed(running.clone()), scene.now);
    assert!(!start_of("c#1", &mut scene), "there are two slots");
    let (kind, message) = (FailureKind::UsageLimit, "used up".to_owned());
    let hold = Hold { kind, message, until: None, next_try_at: None };
    let held = JobRecord { held: Some(hold), ..running };
    let effects = scene.core.handle(changed(held), scene.now);
    assert!(effects.contains(&Effect::Engine(EngineEffect::StartBox(box_of("c#1")))), "{effects:?}");
    // The job goes on although all slots are in use, and the next job waits for one.
    let effects = scene.core.handle(super::tests::request_filed(DaemonRequest::Up), scene.now);
    assert!(effects.iter().any(|effect| format!("{effect:?}").contains("Continue")), "{effects:?}");
    assert!(!start_of("d#1", &mut scene));
}
