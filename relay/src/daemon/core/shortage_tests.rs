//! Tests of agents whose machines have too little memory or disk space for another job.

use common::vitals::{MachineVitals, Space};

use super::*;
use crate::min_free::Shortage;

/// Vitals of a machine with this much free memory, in MiB.
fn vitals(memory: u64) -> MachineVitals {
    let memory = Some(Space { total: 8 << 30, available: memory << 20 });
    MachineVitals { cores: 2, memory, ..MachineVitals::default() }
}

fn vitals_input(memory: u64) -> Input {
    Input::Vitals { connection_id: connection("x", 1), vitals: Box::new(vitals(memory)) }
}

fn connected_input(memory: u64) -> Input {
    let Input::Connected(mut connection) = agent_connected("x", 1, &[]) else { panic!("another input") };
    connection.hello.vitals = Some(Box::new(vitals(memory)));
    Input::Connected(connection)
}

fn published_vitals(scene: &Scene) -> (Option<u64>, Option<String>) {
    let PlatformStatus::Ready { vitals, shortage, .. } = &scene.core.lease().platform else {
        panic!("{:?}", scene.core.lease().platform)
    };
    let memory = vitals.as_ref().and_then(|vitals| vitals.memory).map(|memory| memory.available >> 20);
    (memory, shortage.as_ref().map(Shortage::describe))
}

#[test]
fn a_job_waits_for_enough_memory_and_the_lease_shows_the_shortage_at_once() {
    let mut scene = Scene::new(EngineKind::Local);
    scene
        .check(Input::RegistryOpened(Vec::new()), &[])
        .check(Input::Listening, &["Engine(StartPlatform { has_jobs: false })"])
        .check(job_found("a#1"), &["adopt a#1"])
        .check(Input::Register("x".into()), &["admit"])
        .check(connected_input(180), &["publish Cached: x of 1"]);
    let reason = "the machine has 180 MiB of memory free, less than the reserve of 256 MiB ([platform] min_free_memory)";
    assert_eq!(published_vitals(&scene), (Some(180), Some(reason.to_owned())));
    // A change that neither stops nor starts offers is published with the next heartbeat.
    scene.check(vitals_input(200), &[]);
    assert_eq!(published_vitals(&scene).0, Some(200));
    scene.check(vitals_input(256), &["publish Cached: x of 1", "offer a#1, run 1, to x on Some(1)"]);
    assert_eq!(published_vitals(&scene), (Some(256), None));
    scene.check(vitals_input(100), &["publish Cached: x of 1"]).check(job_found("b#1"), &["adopt b#1"]);
    // A shortage does not affect a job that has started.
    scene
        .check(record_changed("a#1", State::Running), &[])
        .check(record_changed("a#1", State::Completed), &["notify a#1"]);
    // Vitals from an older connection are ignored.
    let stale = Input::Vitals { connection_id: connection("x", 0), vitals: Box::new(vitals(999)) };
    scene.check(stale, &[]);
    scene.check(vitals_input(999), &["publish Cached: x of 1", "offer b#1, run 1, to x on Some(1)"]);
}

#[test]
fn the_jobs_of_a_container_that_ran_out_of_memory_get_its_last_vitals() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene.check(vitals_input(12), &["publish Cached: x of 1"]);
    let exit = ContainerExit {
        finished_at: Some("then".to_owned()),
        ..ContainerExit::from_exit_code(Some(137), true)
    };
    let effects = scene.core.handle(Input::ContainerChanged(ContainerChange::Died(exit)), scene.now);
    let body = EventBody::Vitals(Box::new(vitals(12)));
    assert_eq!(effects[0], Effect::Record { job: id("a#1"), body });
}
