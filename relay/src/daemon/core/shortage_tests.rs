//! Machines that have too little memory or disk space for another job.

use common::vitals::{MachineVitals, Space};

use super::*;
use crate::min_free::Shortage;

/// Vitals of a machine with this much free memory, in MiB.
fn vitals(memory: u64) -> MachineVitals {
    let memory = Some(Space { total: 8 << 30, available: memory << 20 });
    MachineVitals { cores: 2, memory, ..MachineVitals::default() }
}

fn measured(memory: u64) -> Input {
    Input::Vitals { connection_id: connection("x", 1), vitals: Box::new(vitals(memory)) }
}

fn connected_with(memory: u64) -> Input {
    let Input::Connected(mut connection) = connected("x", 1, &[]) else { panic!("another input") };
    connection.hello.vitals = Some(Box::new(vitals(memory)));
    Input::Connected(connection)
}

fn platform(scene: &Scene) -> (Option<u64>, Option<String>) {
    let PlatformStatus::Ready { vitals, shortage, .. } = &scene.core.lease().platform else {
        panic!("{:?}", scene.core.lease().platform)
    };
    let memory = vitals.as_ref().and_then(|vitals| vitals.memory).map(|memory| memory.available >> 20);
    (memory, shortage.as_ref().map(Shortage::describe))
}

#[test]
fn a_job_waits_for_a_machine_with_enough_memory_and_says_so_from_the_start() {
    let mut scene = Scene::new(EngineKind::Local);
    scene
        .then(Input::RegistryOpened(Vec::new()), &[])
        .then(Input::Listening, &["Engine(StartPlatform)"])
        .then(found("a#1"), &["adopt a#1"])
        .then(Input::Register("x".into()), &["admit"])
        .then(connected_with(180), &["publish Cached: x of 1"]);
    let why = "the machine has 180 MiB of memory free, less than the reserve of 256 MiB ([platform] min_free_memory)";
    assert_eq!(platform(&scene), (Some(180), Some(why.to_owned())));
    // The next heartbeat publishes a change that holds or starts no job.
    scene.then(measured(200), &[]);
    assert_eq!(platform(&scene).0, Some(200));
    scene.then(measured(256), &["publish Cached: x of 1", "offer a#1, run 1, to x on Some(1)"]);
    assert_eq!(platform(&scene), (Some(256), None));
    scene.then(measured(100), &["publish Cached: x of 1"]).then(found("b#1"), &["adopt b#1"]);
    // A job that has started goes on.
    scene.then(changed("a#1", State::Running), &[]).then(changed("a#1", State::Completed), &["notify a#1"]);
    // A report from an older connection is ignored.
    let stale = Input::Vitals { connection_id: connection("x", 0), vitals: Box::new(vitals(999)) };
    scene.then(stale, &[]);
    scene.then(measured(999), &["publish Cached: x of 1", "offer b#1, run 1, to x on Some(1)"]);
}

#[test]
fn a_container_that_dies_for_lack_of_memory_leaves_its_last_vitals_in_its_jobs() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene.then(measured(12), &["publish Cached: x of 1"]);
    let exit = ContainerExit {
        finished_at: Some("then".to_owned()),
        ..ContainerExit::from_exit_code(Some(137), true)
    };
    let effects = scene.core.handle(Input::ContainerChanged(ContainerChange::Died(exit)), scene.now);
    let body = EventBody::Vitals(Box::new(vitals(12)));
    assert_eq!(effects[0], Effect::Record { job: id("a#1"), body });
}
