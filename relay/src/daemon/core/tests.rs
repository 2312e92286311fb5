//! Tests of the core: tables of inputs and the effects that follow from each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::event::{EventBody, Isolation};
use common::ids::JobId;
use common::record::{JobRecord, Link, State};
use common::wire::{Hello, JobProgress, Platform};
use jiff::Timestamp;
use tokio::time::Instant;

use super::*;
use crate::container_state::ContainerExit;
use crate::engine_kind::EngineKind;
use crate::registry::event_log::LogFollower;
use crate::registry::lease::{self, DaemonId, Lease, PlatformStatus};
use crate::registry::read::FoundJob;
use crate::registry::requests::DaemonRequest;
use crate::render::samples;
use crate::state_dir::saved_state::SavedState;
use crate::state_dir::tokens::HolderKind;

#[path = "shortage_tests.rs"]
mod shortage_tests;

/// A core, and the time that it is given.
pub(super) struct Scene {
    pub(super) core: Core,
    pub(super) now: Instant,
}

impl Scene {
    fn new(engine: EngineKind) -> Self {
        Self::with_settings(engine, false)
    }

    /// A core whose jobs have a box each or not.
    pub(super) fn with_settings(engine: EngineKind, has_boxes: bool) -> Self {
        let lease = Lease {
            schema: lease::SCHEMA_VERSION,
            pid: holder().pid,
            version: "1".to_owned(),
            engine,
            listen: Vec::new(),
            started_at: holder().started_at,
            heartbeat_at: Timestamp::UNIX_EPOCH,
            platform: PlatformStatus::Starting { detail: "just started".to_owned() },
            agent: None,
            last_exit: None,
            clock: None,
            groups: BTreeMap::new(),
            path: None,
        };
        let settings =
            CoreSettings { container_name: "platform".to_owned(), has_boxes, ..CoreSettings::default() };
        let core = Core::new(lease, &SavedState::default(), settings);
        Self { core, now: Instant::now() }
    }

    /// A core with agent `x` on connection 1, which runs job `a#1`.
    fn with_running_job(engine: EngineKind) -> Self {
        let mut scene = Self::new(engine);
        scene.core.handle(Input::RegistryOpened(vec![record("a#1", State::Running, Some("x"))]), scene.now);
        scene.core.handle(agent_connected("x", 1, &["a#1"]), scene.now);
        scene
    }

    pub(super) fn advance(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    /// Passes an input to the core and compares the effects with `expected`.
    #[track_caller]
    pub(super) fn check(&mut self, input: Input, expected: &[&str]) -> &mut Self {
        let input_text = format!("{input:?}");
        let effects = self.core.handle(input, self.now);
        let effects: Vec<String> = effects.iter().filter_map(describe_effect).collect();
        assert_eq!(effects, expected, "after {input_text}");
        self
    }
}

/// Describes an effect in one line. Saved states are left out, because one precedes each lease.
fn describe_effect(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::SaveState(..) => return None,
        Effect::PublishLease(lease, durability) => match &lease.platform {
            PlatformStatus::Ready { agent, agents, .. } => {
                format!("publish {durability:?}: {agent} of {agents}")
            }
            PlatformStatus::Starting { detail } => format!("publish {durability:?}: starting: {detail}"),
            status => format!("publish {durability:?}: {status:?}"),
        },
        Effect::Admit(Ok(cause)) => format!("admit{}", cause.as_ref().map_or("", |_| " with its cause")),
        Effect::Send { to, frame } => format!("send {}: {frame:?}", to.number),
        Effect::Offer { job, epoch, agent, connection } => {
            let number = connection.as_ref().map(|connection| connection.number);
            format!("offer {job}, run {epoch}, to {agent} on {number:?}")
        }
        Effect::Record { job, body: EventBody::LinkLost { reason } } => {
            format!("record {job}: lost: {reason}")
        }
        Effect::Record { job, body: EventBody::Finished { state, error, .. } } => {
            format!("record {job}: {state:?} {:?}", error.as_ref().map(|error| error.kind))
        }
        Effect::Record { job, body: EventBody::LinkRestored { agent } } => {
            format!("record {job}: back on {agent}")
        }
        Effect::OpenJob(job) => format!("adopt {job}"),
        Effect::RemoveEnvValues(job) => format!("drop values of {job}"),
        Effect::RemoveCancel { job, .. } => format!("remove the cancel of {job}, if its record can be read"),
        Effect::RemoveConnection(connection) => format!("left {}", connection.number),
        Effect::Notify(record) => format!("notify {}", record.job),
        Effect::ExtendLimit(LimitEffect::ReadExtensionStates(queries)) => {
            format!("inspect {}", queries.len())
        }
        Effect::ExtendLimit(LimitEffect::StoreTargetLimit(request)) => {
            format!("store target {:?}", request.target_ms)
        }
        Effect::ExtendLimit(LimitEffect::WriteSpecLimit { job, job_ms, .. }) => {
            format!("move {job} to {job_ms}")
        }
        other => format!("{other:?}"),
    })
}

fn holder() -> DaemonId {
    DaemonId { pid: 7, started_at: Timestamp::UNIX_EPOCH }
}

pub(super) fn id(job: &str) -> JobId {
    job.parse().unwrap()
}

pub(super) fn record(job: &str, state: State, agent: Option<&str>) -> JobRecord {
    let mut record = samples::minimal_record(job, state);
    // Each job has a folder of its own, so that jobs can run beside each other.
    record.workspace = format!("/w/{job}");
    if agent.is_some() {
        record.agent = agent.map(str::to_owned);
        record.epoch = 1;
        record.link = Some(Link::Connected);
    }
    record
}

fn job_found(job: &str) -> Input {
    found_record(record(job, State::Queued, None))
}

pub(super) fn found_record(record: JobRecord) -> Input {
    Input::JobFound(Box::new(FoundJob { record, is_record_stale: false }))
}

fn record_changed(job: &str, state: State) -> Input {
    Input::RecordsChanged(BTreeMap::from([(id(job), record(job, state, Some("x")))]))
}

pub(super) fn agent_connected(agent: &str, number: ConnectionNumber, jobs: &[&str]) -> Input {
    let platform =
        Platform { system: "linux".into(), isolation: Isolation::None, codex: None, codex_problem: None };
    let jobs = jobs.iter().map(|job| JobProgress { job: id(job), epoch: 1, last_seq: 0 }).collect();
    let hello = Hello::new(agent, 1, platform, jobs);
    Input::Connected(Connection { number, hello, holder: HolderKind::Platform })
}

fn connection(agent: &str, number: ConnectionNumber) -> ConnectionId {
    ConnectionId { agent: agent.into(), number }
}

fn agent_disconnected(agent: &str, number: ConnectionNumber) -> Input {
    Input::Disconnected { connection_id: connection(agent, number), reason: "it was cut".to_owned() }
}

pub(super) fn request_filed(request: DaemonRequest) -> Input {
    Input::RequestFiled {
        path: PathBuf::from("1.json"),
        request: Some(request),
        wall_time: Timestamp::UNIX_EPOCH,
    }
}

fn container_killed() -> Input {
    let exit = ContainerExit {
        finished_at: Some("then".to_owned()),
        ..ContainerExit::from_exit_code(Some(137), false)
    };
    Input::ContainerChanged(ContainerChange::Died(exit))
}

const KILLED_MESSAGE: &str = "the container 'platform' exited with code 137: it was killed";

#[test]
fn a_key_that_is_missing_is_published_until_it_is_there() {
    let mut scene = Scene::new(EngineKind::Local);
    let problem = |scene: &Scene| match &scene.core.lease().platform {
        PlatformStatus::Ready { codex_problem, .. } => codex_problem.clone(),
        status => panic!("{status:?}"),
    };
    scene
        .check(Input::Listening, &["Engine(StartPlatform { has_jobs: false })"])
        .check(Input::ModelChecked(Some("no key".to_owned())), &[])
        .check(Input::Register("x".into()), &["admit"])
        .check(agent_connected("x", 1, &[]), &["publish Cached: x of 1"]);
    assert_eq!(problem(&scene), Some("no key".to_owned()));
    scene.check(Input::ModelChecked(None), &["publish Cached: x of 1"]);
    assert_eq!(problem(&scene), None);
}

#[test]
fn a_job_is_offered_to_the_agent_that_connects_and_announced_once_it_has_ended() {
    let mut scene = Scene::new(EngineKind::Local);
    let accepted = Input::Accepted { connection_id: connection("x", 1), job: id("a#1"), epoch: 1 };
    scene
        .check(Input::RegistryOpened(Vec::new()), &[])
        .check(Input::Listening, &["Engine(StartPlatform { has_jobs: false })"])
        .check(job_found("a#1"), &["adopt a#1"])
        .check(Input::Register("x".into()), &["admit"])
        .check(agent_connected("x", 1, &[]), &["publish Cached: x of 1", "offer a#1, run 1, to x on Some(1)"])
        .check(job_found("b#1"), &["adopt b#1"])
        .check(accepted, &["drop values of a#1"])
        .check(record_changed("a#1", State::Running), &[])
        .check(record_changed("a#1", State::Completed), &["offer b#1, run 1, to x on Some(1)", "notify a#1"]);
}

#[test]
fn an_agent_s_newer_connection_ends_the_older_one_and_an_older_one_changes_nothing() {
    let mut scene = Scene::with_running_job(EngineKind::Local);
    scene
        .check(agent_connected("x", 3, &["a#1"]), &["Close(1)", "publish Cached: x of 1"])
        .check(agent_connected("x", 2, &["a#1"]), &["Close(2)"])
        .check(agent_disconnected("x", 1), &["left 1"])
        .check(
            agent_disconnected("x", 3),
            &["Close(3)", "publish Cached: starting: waiting for the agent (it was cut)", "left 3"],
        )
        // The hello of the older connection was delayed, and lacks the jobs that were sent on the newer connection.
        .check(agent_connected("x", 2, &[]), &["Close(2)"]);
}

#[test]
fn a_connection_that_accepts_no_frame_ends() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    let waiting = "waiting for the agent (it accepts no more frames)";
    scene.check(
        Input::FrameNotSent(connection("x", 1)),
        &["Close(1)", &format!("publish Cached: starting: {waiting}")],
    );
    assert_eq!(scene.core.deadline(), Some(scene.now + Duration::from_millis(700)));
}

#[test]
fn an_exit_is_recorded_before_the_restart_and_its_cause_is_sent_to_the_agent() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .check(
            container_killed(),
            &[
                &format!("record a#1: lost: {KILLED_MESSAGE}"),
                "Close(1)",
                &format!("publish Cached: starting: {KILLED_MESSAGE}"),
                &format!("publish Synced: starting: {KILLED_MESSAGE}"),
            ],
        )
        .check(container_killed(), &[])
        .check(agent_disconnected("x", 1), &["left 1"])
        .advance(Duration::from_millis(300))
        .check(Input::Tick, &["Engine(StartPlatform { has_jobs: true })"])
        .check(Input::Register("x".into()), &["admit with its cause"])
        .check(agent_connected("x", 2, &["a#1"]), &["publish Cached: x of 1", "record a#1: back on x"])
        .check(record_changed("a#1", State::Failed), &["publish Cached: x of 1", "notify a#1"]);
}

#[test]
fn the_engine_s_cause_takes_precedence_over_the_network_s_if_it_arrives_in_time() {
    let waiting = "publish Cached: starting: waiting for the agent (it was cut)";
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .check(agent_disconnected("x", 1), &["Close(1)", waiting, "left 1"])
        .advance(Duration::from_millis(699))
        .check(Input::Tick, &[])
        .check(
            container_killed(),
            &[
                &format!("record a#1: lost: {KILLED_MESSAGE}"),
                &format!("publish Cached: starting: {KILLED_MESSAGE}"),
                &format!("publish Synced: starting: {KILLED_MESSAGE}"),
            ],
        );

    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .check(agent_disconnected("x", 1), &["Close(1)", waiting, "left 1"])
        .advance(Duration::from_millis(700))
        .check(Input::Tick, &["record a#1: lost: it was cut"]);
}

#[test]
fn a_job_found_while_the_cause_of_its_agent_s_disconnect_is_awaited_is_not_lost() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    let job_found = || found_record(record("b#1", State::Running, Some("x")));
    scene
        .check(
            agent_disconnected("x", 1),
            &["Close(1)", "publish Cached: starting: waiting for the agent (it was cut)", "left 1"],
        )
        .check(job_found(), &["adopt b#1"]);

    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene.check(job_found(), &["adopt b#1", "record b#1: Failed Some(AgentLost)"]);
}

#[test]
fn an_agent_is_offered_no_job_while_the_cause_of_its_disconnect_is_awaited() {
    Scene::with_running_job(EngineKind::Docker)
        .check(record_changed("a#1", State::Completed), &["notify a#1"])
        .check(agent_connected("w", 2, &[]), &["publish Cached: x of 2"])
        .check(agent_disconnected("x", 1), &["Close(1)", "publish Cached: w of 1", "left 1"])
        .check(job_found("b#1"), &["adopt b#1", "offer b#1, run 1, to w on Some(2)"]);
}

#[test]
fn a_job_whose_end_only_its_log_shows_is_opened_and_not_offered() {
    let ended = FoundJob { record: record("b#1", State::Cancelled, None), is_record_stale: true };
    Scene::with_running_job(EngineKind::Docker)
        .check(Input::JobFound(Box::new(ended)), &["adopt b#1"])
        .check(record_changed("b#1", State::Cancelled), &["notify b#1"]);
}

#[test]
fn a_local_agent_whose_process_has_ended_is_started_again_at_once() {
    let reason = || "it was cut".to_owned();
    let mut scene = Scene::with_running_job(EngineKind::Local);
    scene
        .check(
            agent_disconnected("x", 1),
            &["Close(1)", "publish Cached: starting: waiting for the agent (it was cut)", "left 1"],
        )
        .advance(Duration::from_millis(100))
        .check(Input::Tick, &[r#"Engine(FindLocalAgentProcess { reason: "it was cut" })"#])
        .check(
            Input::LocalAgentProcess { is_running: false, reason: reason() },
            &["record a#1: lost: the agent's process has ended", "Engine(StartPlatform { has_jobs: true })"],
        );
}

#[test]
fn the_jobs_of_an_agent_that_was_replaced_are_lost_after_half_a_minute() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .check(
            agent_disconnected("x", 1),
            &["Close(1)", "publish Cached: starting: waiting for the agent (it was cut)", "left 1"],
        )
        .check(agent_connected("y", 2, &[]), &["publish Cached: y of 1"])
        .advance(Duration::from_secs(1))
        .check(Input::Tick, &["record a#1: lost: it was cut"])
        .advance(Duration::from_secs(29))
        .check(Input::Tick, &["FindRevoked([\"x\"])"])
        .check(Input::Revoked(vec![]), &[])
        .advance(Duration::from_secs(30))
        .check(Input::Tick, &["FindRevoked([\"x\"])"])
        .check(
            Input::Revoked(vec!["x".into()]),
            &["publish Cached: y of 1", "record a#1: Failed Some(AgentLost)"],
        )
        .check(record_changed("a#1", State::Failed), &["notify a#1"])
        // The record of b#1 could not be read until now.
        .check(found_record(record("b#1", State::Running, Some("x"))), &["adopt b#1"])
        .advance(Duration::from_secs(30))
        .check(Input::Tick, &["FindRevoked([\"x\"])"])
        .check(Input::Revoked(vec!["x".into()]), &["record b#1: Failed Some(AgentLost)"]);
}

#[test]
fn a_cancel_stays_filed_until_its_job_has_ended() {
    let cancel = |job| request_filed(DaemonRequest::Cancel { job: id(job), grace_ms: 5 });
    let mut scene = Scene::with_running_job(EngineKind::Local);
    scene
        .check(job_found("b#1"), &["adopt b#1"])
        .check(cancel("b#1"), &["record b#1: Cancelled None"])
        .check(cancel("b#1"), &[])
        .check(cancel("a#1"), &["send 1: Cancel { a#1, grace_ms: 5 }"])
        .check(record_changed("a#1", State::Cancelled), &["notify a#1"])
        .check(cancel("a#1"), &["remove the cancel of a#1, if its record can be read"]);
}

#[test]
fn down_stops_the_platform_and_ends_the_daemon_once_everything_is_recorded() {
    let mut scene = Scene::with_running_job(EngineKind::Local);
    let other = DaemonId { pid: 8, ..holder() };
    scene
        .check(request_filed(DaemonRequest::Down { relay: Some(other) }), &[r#"RemoveRequest("1.json")"#])
        .check(
            request_filed(DaemonRequest::Down { relay: Some(holder()) }),
            &["Engine(StopPlatform)", r#"RemoveRequest("1.json")"#],
        )
        .check(Input::PlatformStopped(Ok(())), &[]);
    assert!(!scene.core.is_over(scene.now), "its job has not ended");
    assert!(scene.core.is_over(scene.now + Duration::from_secs(5)));
    scene.check(record_changed("a#1", State::Failed), &["notify a#1"]);
    assert!(scene.core.is_over(scene.now));
    scene.check(
        Input::MainLoopEnded,
        &["FlushWriter", "CloseSubscribers", "Close(1)", "RevokeTokens", "publish Cached: Stopped"],
    );
    assert_eq!(scene.core.saved_state().engines, []);
}

#[test]
fn a_new_limit_is_stored_in_the_request_then_in_the_spec_then_the_request_is_removed() {
    let path = Path::new("1.json");
    let query_result = |spec_ms| {
        let (path, log_position) = (path.to_owned(), LogFollower::new());
        Input::ExtensionStates(vec![ExtensionState {
            path,
            log_position,
            lines: Vec::new(),
            spec_ms,
            recorded_seq: None,
        }])
    };
    let request = |to_ms| LimitRequest {
        path: path.to_owned(),
        job: id("a#1"),
        is_for_step: false,
        by_ms: 1000,
        after_event_id: 0,
        target_ms: to_ms,
    };
    let extend = DaemonRequest::Extend { job: id("a#1"), step: false, by_ms: 1000, after: 0, to_ms: None };
    Scene::new(EngineKind::Local)
        .check(job_found("a#1"), &["adopt a#1"])
        .check(request_filed(extend), &[])
        .check(Input::RequestsRead, &["inspect 1"])
        .check(query_result(Some(5000)), &["store target Some(6000)"])
        .check(Input::TargetLimitStored(request(Some(6000))), &["inspect 1"])
        .check(query_result(Some(5000)), &["move a#1 to 6000"])
        .check(Input::SpecLimitWritten(path.to_owned()), &["inspect 1"])
        .check(query_result(Some(6000)), &[r#"RemoveRequest("1.json")"#]);
}
