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

#[path = "shortage_tests.rs"]
mod shortage_tests;

/// A core and its time.
struct Scene {
    core: Core,
    now: Instant,
}

impl Scene {
    fn new(engine: EngineKind) -> Self {
        let lease = Lease {
            schema: lease::SCHEMA,
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
        };
        let settings = CoreSettings { container_name: "platform".to_owned(), ..CoreSettings::default() };
        let core = Core::new(lease, &SavedState::default(), settings);
        Self { core, now: Instant::now() }
    }

    /// A core with agent `x` on connection 1, which runs job `a#1`.
    fn with_running_job(engine: EngineKind) -> Self {
        let mut scene = Self::new(engine);
        scene.core.handle(Input::RegistryOpened(vec![record("a#1", State::Running, Some("x"))]), scene.now);
        scene.core.handle(connected("x", 1, &["a#1"]), scene.now);
        scene
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    /// Handles an input and compares what follows.
    #[track_caller]
    fn then(&mut self, input: Input, expected: &[&str]) -> &mut Self {
        let shown = format!("{input:?}");
        let effects = self.core.handle(input, self.now);
        let effects: Vec<String> = effects.iter().filter_map(show).collect();
        assert_eq!(effects, expected, "after {shown}");
        self
    }
}

/// Describes an effect in a line. Stored states go along with each lease.
fn show(effect: &Effect) -> Option<String> {
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
        Effect::DropEnv(job) => format!("drop values of {job}"),
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
    let mut record = samples::bare(job, state);
    // Jobs that are to run beside each other.
    record.workspace = format!("/w/{job}");
    if agent.is_some() {
        record.agent = agent.map(str::to_owned);
        record.epoch = 1;
        record.link = Some(Link::Connected);
    }
    record
}

fn found(job: &str) -> Input {
    found_record(record(job, State::Queued, None))
}

fn found_record(record: JobRecord) -> Input {
    Input::JobFound(Box::new(FoundJob { record, record_is_stale: false }))
}

fn changed(job: &str, state: State) -> Input {
    Input::RecordsChanged(BTreeMap::from([(id(job), record(job, state, Some("x")))]))
}

fn connected(agent: &str, number: ConnectionNumber, jobs: &[&str]) -> Input {
    let platform =
        Platform { system: "linux".into(), isolation: Isolation::None, codex: None, codex_problem: None };
    let jobs = jobs.iter().map(|job| JobProgress { job: id(job), epoch: 1, last_seq: 0 }).collect();
    let hello = Hello::new(agent, 1, platform, jobs);
    Input::Connected(Connection { number, hello, is_platform: true })
}

fn connection(agent: &str, number: ConnectionNumber) -> ConnectionId {
    ConnectionId { agent: agent.into(), number }
}

fn cut(agent: &str, number: ConnectionNumber) -> Input {
    Input::Disconnected { connection_id: connection(agent, number), reason: "it was cut".to_owned() }
}

fn filed(request: DaemonRequest) -> Input {
    Input::RequestFiled { path: PathBuf::from("1.json"), request: Some(request), wall: Timestamp::UNIX_EPOCH }
}

fn killed() -> Input {
    let exit = ContainerExit {
        finished_at: Some("then".to_owned()),
        ..ContainerExit::from_exit_code(Some(137), false)
    };
    Input::ContainerChanged(ContainerChange::Died(exit))
}

const KILLED: &str = "the container 'platform' exited with code 137: it was killed";

#[test]
fn a_job_is_offered_to_the_agent_that_connects_and_announced_once_it_has_ended() {
    let mut scene = Scene::new(EngineKind::Local);
    let accepted = Input::Accepted { connection_id: connection("x", 1), job: id("a#1"), epoch: 1 };
    scene
        .then(Input::RegistryOpened(Vec::new()), &[])
        .then(Input::Listening, &["Engine(StartPlatform)"])
        .then(found("a#1"), &["adopt a#1"])
        .then(Input::Register("x".into()), &["admit"])
        .then(connected("x", 1, &[]), &["publish Cached: x of 1", "offer a#1, run 1, to x on Some(1)"])
        .then(found("b#1"), &["adopt b#1"])
        .then(accepted, &["drop values of a#1"])
        .then(changed("a#1", State::Running), &[])
        .then(changed("a#1", State::Completed), &["offer b#1, run 1, to x on Some(1)", "notify a#1"]);
}

#[test]
fn an_agent_s_newer_connection_ends_the_older_one_and_an_older_one_changes_nothing() {
    let mut scene = Scene::with_running_job(EngineKind::Local);
    scene
        .then(connected("x", 3, &["a#1"]), &["Close(1)", "publish Cached: x of 1"])
        .then(connected("x", 2, &["a#1"]), &["Close(2)"])
        .then(cut("x", 1), &["left 1"])
        .then(
            cut("x", 3),
            &["Close(3)", "publish Cached: starting: waiting for the agent (it was cut)", "left 3"],
        )
        // The older connection's hello was delayed: it knows nothing of what the newer one was sent.
        .then(connected("x", 2, &[]), &["Close(2)"]);
}

#[test]
fn a_connection_that_takes_no_frame_ends() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    let waiting = "waiting for the agent (it accepts no more frames)";
    scene.then(
        Input::FrameNotSent(connection("x", 1)),
        &["Close(1)", &format!("publish Cached: starting: {waiting}")],
    );
    assert_eq!(scene.core.deadline(), Some(scene.now + Duration::from_millis(700)));
}

#[test]
fn a_dead_container_is_recorded_before_it_is_started_again_and_its_agent_hears_of_it() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .then(
            killed(),
            &[
                &format!("record a#1: lost: {KILLED}"),
                "Close(1)",
                &format!("publish Cached: starting: {KILLED}"),
                &format!("publish Synced: starting: {KILLED}"),
            ],
        )
        .then(killed(), &[])
        .then(cut("x", 1), &["left 1"])
        .pass(Duration::from_millis(300))
        .then(Input::Tick, &["Engine(StartPlatform)"])
        .then(Input::Register("x".into()), &["admit with its cause"])
        .then(connected("x", 2, &["a#1"]), &["publish Cached: x of 1", "record a#1: back on x"])
        .then(changed("a#1", State::Failed), &["publish Cached: x of 1", "notify a#1"]);
}

#[test]
fn the_engine_s_cause_takes_precedence_over_the_network_s_if_it_arrives_in_time() {
    let waiting = "publish Cached: starting: waiting for the agent (it was cut)";
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .then(cut("x", 1), &["Close(1)", waiting, "left 1"])
        .pass(Duration::from_millis(699))
        .then(Input::Tick, &[])
        .then(
            killed(),
            &[
                &format!("record a#1: lost: {KILLED}"),
                &format!("publish Cached: starting: {KILLED}"),
                &format!("publish Synced: starting: {KILLED}"),
            ],
        );

    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .then(cut("x", 1), &["Close(1)", waiting, "left 1"])
        .pass(Duration::from_millis(700))
        .then(Input::Tick, &["record a#1: lost: it was cut"]);
}

#[test]
fn a_job_found_while_the_cause_of_its_agent_s_disconnect_is_awaited_is_not_lost() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    let found = || found_record(record("b#1", State::Running, Some("x")));
    scene
        .then(
            cut("x", 1),
            &["Close(1)", "publish Cached: starting: waiting for the agent (it was cut)", "left 1"],
        )
        .then(found(), &["adopt b#1"]);

    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene.then(found(), &["adopt b#1", "record b#1: Failed Some(AgentLost)"]);
}

#[test]
fn a_job_whose_end_only_its_log_shows_is_opened_and_not_offered() {
    let ended = FoundJob { record: record("b#1", State::Cancelled, None), record_is_stale: true };
    Scene::with_running_job(EngineKind::Docker)
        .then(Input::JobFound(Box::new(ended)), &["adopt b#1"])
        .then(changed("b#1", State::Cancelled), &["notify b#1"]);
}

#[test]
fn a_local_agent_whose_process_has_ended_is_started_again_at_once() {
    let reason = || "it was cut".to_owned();
    let mut scene = Scene::with_running_job(EngineKind::Local);
    scene
        .then(
            cut("x", 1),
            &["Close(1)", "publish Cached: starting: waiting for the agent (it was cut)", "left 1"],
        )
        .pass(Duration::from_millis(100))
        .then(Input::Tick, &[r#"Engine(FindLocalAgentProcess { reason: "it was cut" })"#])
        .then(
            Input::LocalAgentProcess { runs: false, reason: reason() },
            &["record a#1: lost: the agent's process has ended", "Engine(StartPlatform)"],
        );
}

#[test]
fn the_jobs_of_an_agent_that_was_replaced_are_lost_after_half_a_minute() {
    let mut scene = Scene::with_running_job(EngineKind::Docker);
    scene
        .then(
            cut("x", 1),
            &["Close(1)", "publish Cached: starting: waiting for the agent (it was cut)", "left 1"],
        )
        .then(connected("y", 2, &[]), &["publish Cached: y of 1"])
        .pass(Duration::from_secs(1))
        .then(Input::Tick, &["record a#1: lost: it was cut"])
        .pass(Duration::from_secs(29))
        .then(Input::Tick, &["FindRevoked([\"x\"])"])
        .then(Input::Revoked(vec![]), &[])
        .pass(Duration::from_secs(30))
        .then(Input::Tick, &["FindRevoked([\"x\"])"])
        .then(
            Input::Revoked(vec!["x".into()]),
            &["publish Cached: y of 1", "record a#1: Failed Some(AgentLost)"],
        )
        .then(changed("a#1", State::Failed), &["notify a#1"])
        // Its record could not be read until now.
        .then(found_record(record("b#1", State::Running, Some("x"))), &["adopt b#1"])
        .pass(Duration::from_secs(30))
        .then(Input::Tick, &["FindRevoked([\"x\"])"])
        .then(Input::Revoked(vec!["x".into()]), &["record b#1: Failed Some(AgentLost)"]);
}

#[test]
fn a_cancel_stays_filed_until_its_job_has_ended() {
    let cancel = |job| filed(DaemonRequest::Cancel { job: id(job), grace_ms: 5 });
    let mut scene = Scene::with_running_job(EngineKind::Local);
    scene
        .then(found("b#1"), &["adopt b#1"])
        .then(cancel("b#1"), &["record b#1: Cancelled None"])
        .then(cancel("b#1"), &[])
        .then(cancel("a#1"), &["send 1: Cancel { a#1, grace_ms: 5 }"])
        .then(changed("a#1", State::Cancelled), &["notify a#1"])
        .then(cancel("a#1"), &["remove the cancel of a#1, if its record can be read"]);
}

#[test]
fn down_stops_the_platform_and_ends_the_daemon_once_everything_is_recorded() {
    let mut scene = Scene::with_running_job(EngineKind::Local);
    let other = DaemonId { pid: 8, ..holder() };
    scene
        .then(filed(DaemonRequest::Down { relay: Some(other) }), &[r#"RemoveRequest("1.json")"#])
        .then(
            filed(DaemonRequest::Down { relay: Some(holder()) }),
            &["Engine(StopPlatform)", r#"RemoveRequest("1.json")"#],
        )
        .then(Input::PlatformStopped(Ok(())), &[]);
    assert!(!scene.core.is_over(scene.now), "its job has not ended");
    assert!(scene.core.is_over(scene.now + Duration::from_secs(5)));
    scene.then(changed("a#1", State::Failed), &["notify a#1"]);
    assert!(scene.core.is_over(scene.now));
    scene.then(
        Input::MainLoopEnded,
        &["FlushWriter", "CloseSubscribers", "Close(1)", "RevokeTokens", "publish Cached: Stopped"],
    );
    assert_eq!(scene.core.saved_state().engines, []);
}

#[test]
fn a_new_limit_is_stored_in_the_request_then_in_the_spec_then_the_request_is_removed() {
    let path = Path::new("1.json");
    let query_result = |spec_ms| {
        let (path, log) = (path.to_owned(), LogFollower::new());
        Input::ExtensionStates(vec![ExtensionState {
            path,
            log,
            lines: Vec::new(),
            spec_ms,
            recorded_seq: None,
        }])
    };
    let request = |to_ms| LimitRequest {
        path: path.to_owned(),
        job: id("a#1"),
        step: false,
        by_ms: 1000,
        after_event_id: 0,
        target_ms: to_ms,
    };
    let extend = DaemonRequest::Extend { job: id("a#1"), step: false, by_ms: 1000, after: 0, to_ms: None };
    Scene::new(EngineKind::Local)
        .then(found("a#1"), &["adopt a#1"])
        .then(filed(extend), &[])
        .then(Input::RequestsRead, &["inspect 1"])
        .then(query_result(Some(5000)), &["store target Some(6000)"])
        .then(Input::TargetLimitStored(request(Some(6000))), &["inspect 1"])
        .then(query_result(Some(5000)), &["move a#1 to 6000"])
        .then(Input::SpecLimitWritten(path.to_owned()), &["inspect 1"])
        .then(query_result(Some(6000)), &[r#"RemoveRequest("1.json")"#]);
}
