//! A registry with its writer, without the writer's thread, for tests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::event::{Event, EventBody, FinalState, Queued};
use common::event_line::EventLine;
use common::ids::JobId;
use common::record::JobRecord;
use common::wire::{Durable, JobProgress};
use tokio::sync::oneshot;

use super::command::Receipts;
use super::writer_loop::Writer;
use super::*;
use crate::daemon::core::ConnectionId;
use crate::daemon::latest_map::LatestMap;
use crate::daemon::subscribe::Broadcast;
use crate::files::atomic::Durability;
use crate::registry::{Registry, event_log};
use crate::time::Clock;

pub(super) fn launch(registry: &Registry, job: &str) -> JobId {
    let job: JobId = job.parse().unwrap();
    let record = JobRecord::from_queued(job.clone(), crate::time::now(), &Queued::default());
    registry.record(&job).replace(&record.to_bytes().unwrap(), Durability::Cached).unwrap();
    job
}

pub(super) fn open_writer(registry: &Registry) -> (Writer, Changes) {
    let changes = LatestMap::new();
    let (clock, broadcast) = (Clock::new(None), Broadcast::new());
    (Writer::open(registry.clone(), clock, changes.clone(), broadcast, Instant::now()).unwrap().0, changes)
}

/// Returns the connection of the agent that a job was offered to.
pub(super) fn connection_id(writer: &mut Writer, job: &JobId) -> ConnectionId {
    let connection_id = ConnectionId { agent: "agent".into(), number: 1 };
    writer.ownership.offer(job.clone(), connection_id.agent.clone());
    assert!(writer.ownership.on_connect(&connection_id));
    connection_id
}

pub(super) fn message_event(text: impl Into<String>) -> Event {
    Event { at: "2026-01-02T03:04:05.678Z".parse().unwrap(), body: EventBody::Message { text: text.into() } }
}

pub(super) fn finished_event() -> Event {
    let body =
        EventBody::Finished { state: FinalState::Completed, error: None, exit_code: Some(0), changes: None };
    Event { body, ..message_event("") }
}

/// Returns the command for a batch of one event of the job's agent.
pub(super) fn events(
    writer: &mut Writer,
    job: &JobId,
    first_seq: u64,
    event: Event,
    to: &Receipts,
) -> WriterCommand {
    let connection_id = connection_id(writer, job);
    let (job, receipts) = (job.clone(), to.clone());
    WriterCommand::Events { connection_id, job, epoch: 1, first_seq, batch: vec![event], receipts }
}

/// Returns the command for a final event that the relay itself records.
pub(super) fn relay_end(job: &JobId) -> WriterCommand {
    WriterCommand::RecordRelayEvent { job: job.clone(), body: Box::new(finished_event().body) }
}

/// Takes the receipt of a job whose agent must reconnect; returns the reason.
pub(super) fn reconnect_reason(receipts: &Receipts, job: &JobId) -> String {
    take_values(receipts).remove(job).unwrap().reconnect_reason.unwrap()
}

/// Creates a registry with the job `a#1`, and its writer.
pub(super) fn registry_with_job() -> (tempfile::TempDir, Registry, JobId, Writer) {
    let (dir, registry) = Registry::temporary();
    let job = launch(&registry, "a#1");
    let (writer, _) = open_writer(&registry);
    (dir, registry, job, writer)
}

pub(super) fn send_events(
    writer: &mut Writer,
    job: &JobId,
    epoch: u32,
    first_seq: u64,
    batch: Vec<Event>,
) -> Option<Receipt> {
    let receipts: Receipts = LatestMap::new();
    let connection_id = connection_id(writer, job);
    let (job_id, to) = (job.clone(), receipts.clone());
    let command = WriterCommand::Events { connection_id, job: job_id, epoch, first_seq, batch, receipts: to };
    writer.apply_and_commit([command], Instant::now());
    take_values(&receipts).remove(job)
}

/// Takes the current values of a map.
pub(super) fn take_values<V>(map: &LatestMap<JobId, V>) -> BTreeMap<JobId, V> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::ZERO, map.take_all()).await.unwrap_or_default() })
}

pub(super) fn event_texts(registry: &Registry, job: &JobId) -> Vec<String> {
    let log = event_log::read_log(&registry.events(job)).unwrap();
    assert_eq!((log.torn_bytes, log.bad_lines.len()), (0, 0));
    let text = |line: EventLine| match line.event.unwrap().body {
        EventBody::Message { text } => text,
        EventBody::Warning { .. } => "warning".to_owned(),
        EventBody::LinkLost { .. } => "link_lost".to_owned(),
        EventBody::Finished { .. } => "finished".to_owned(),
        EventBody::Queued(_) => "queued".to_owned(),
        other => format!("{other:?}"),
    };
    log.lines.into_iter().map(text).collect()
}

/// Offers jobs to the agent; returns the answer to a query about their durable state.
pub(super) fn query_offered_jobs(writer: &mut Writer, jobs: &[&JobId]) -> Vec<Durable> {
    for job in jobs {
        connection_id(writer, job);
    }
    query_durable(writer, jobs)
}

/// Returns the answer to a query about the durable state of jobs, which need not have been offered to the agent.
pub(super) fn query_durable(writer: &mut Writer, jobs: &[&JobId]) -> Vec<Durable> {
    let (reply, mut durable) = oneshot::channel();
    let connection_id = ConnectionId { agent: "agent".into(), number: 1 };
    let jobs = jobs.iter().map(|job| JobProgress { job: (*job).clone(), epoch: 1, last_seq: 9 }).collect();
    writer.apply_and_commit([WriterCommand::QueryDurable { connection_id, jobs, reply }], Instant::now());
    durable.try_recv().unwrap()
}
