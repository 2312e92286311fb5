//! Tests of the writer without its thread, on a real folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::event::{Event, EventBody, FinalState, Queued};
use common::event_line::EventLine;
use common::ids::JobId;
use common::record::{JobRecord, State};
use common::result::{JobResult, ResultState};
use common::wire::{Durable, JobProgress};
use tokio::sync::oneshot;

use super::command::Receipts;
use super::writer_loop::Writer;
use super::*;
use crate::daemon::core::ConnectionId;
use crate::daemon::latest_map::LatestMap;
use crate::daemon::subscribe::Broadcast;
use crate::files::atomic::Durability;
use crate::files::dir;
use crate::registry::{Registry, event_log, outbox, read};
use crate::time::Clock;

fn launch(registry: &Registry, job: &str) -> JobId {
    let job: JobId = job.parse().unwrap();
    let record = JobRecord::from_queued(job.clone(), crate::time::now(), &Queued::default());
    registry.record(&job).replace(&record.to_bytes().unwrap(), Durability::Cached).unwrap();
    job
}

fn open_writer(registry: &Registry) -> (Writer, Changes) {
    let changes = LatestMap::new();
    let (clock, broadcast) = (Clock::new(None), Broadcast::new());
    (Writer::open(registry.clone(), clock, changes.clone(), broadcast, Instant::now()).unwrap().0, changes)
}

/// Returns the connection of the agent that a job was offered to.
fn connection_id(writer: &mut Writer, job: &JobId) -> ConnectionId {
    let connection_id = ConnectionId { agent: "agent".into(), number: 1 };
    writer.ownership.offer(job.clone(), connection_id.agent.clone());
    assert!(writer.ownership.on_connect(&connection_id));
    connection_id
}

fn message_event(text: impl Into<String>) -> Event {
    Event { at: "2026-01-02T03:04:05.678Z".parse().unwrap(), body: EventBody::Message { text: text.into() } }
}

fn finished_event() -> Event {
    let body =
        EventBody::Finished { state: FinalState::Completed, error: None, exit_code: Some(0), changes: None };
    Event { body, ..message_event("") }
}

/// Returns the command for a batch of one event of the job's agent.
fn events(writer: &mut Writer, job: &JobId, first_seq: u64, event: Event, to: &Receipts) -> WriterCommand {
    let connection_id = connection_id(writer, job);
    let (job, receipts) = (job.clone(), to.clone());
    WriterCommand::Events { connection_id, job, epoch: 1, first_seq, batch: vec![event], receipts }
}

/// Returns the command for a final event that the relay itself records.
fn relay_end(job: &JobId) -> WriterCommand {
    WriterCommand::RecordRelayEvent { job: job.clone(), body: Box::new(finished_event().body) }
}

/// Takes the receipt of a job whose agent must reconnect; returns the reason.
fn reconnect_reason(receipts: &Receipts, job: &JobId) -> String {
    take_values(receipts).remove(job).unwrap().reconnect_reason.unwrap()
}

/// Changes a job's record to one that a newer relay has written; returns the old one.
fn set_newer_schema(registry: &Registry, job: &JobId) -> String {
    let record = fs::read_to_string(registry.record(job)).unwrap();
    fs::write(registry.record(job), record.replace("\"schema\":1", "\"schema\":2")).unwrap();
    record
}

/// Creates a registry with the job `a#1`, and its writer.
fn registry_with_job() -> (tempfile::TempDir, Registry, JobId, Writer) {
    let (dir, registry) = Registry::temporary();
    let job = launch(&registry, "a#1");
    let (writer, _) = open_writer(&registry);
    (dir, registry, job, writer)
}

fn send_events(
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
fn take_values<V>(map: &LatestMap<JobId, V>) -> BTreeMap<JobId, V> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::ZERO, map.take_all()).await.unwrap_or_default() })
}

fn event_texts(registry: &Registry, job: &JobId) -> Vec<String> {
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

#[test]
fn a_repeated_event_is_dropped_and_a_changed_one_refused_even_after_a_restart() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    let acked = |seq| Some(Receipt { epoch: 1, seq, output_offset: 0, reconnect_reason: None });
    assert_eq!(
        send_events(&mut writer, &job, 1, 1, vec![message_event("one"), message_event("two")]),
        acked(2)
    );
    assert_eq!(
        send_events(
            &mut writer,
            &job,
            1,
            1,
            vec![message_event("one"), message_event("two"), message_event("three")]
        ),
        acked(3)
    );
    for _ in 0..2 {
        let problem =
            send_events(&mut writer, &job, 1, 2, vec![message_event("another"), message_event("three")])
                .unwrap()
                .reconnect_reason;
        assert_eq!(problem.unwrap(), "event 2 of a#1, epoch 1, differs from the recorded one");
        assert_eq!(
            send_events(&mut writer, &job, 1, 2, vec![message_event("two"), message_event("three")]),
            acked(3)
        );
        writer = open_writer(&registry).0;
    }
    assert_eq!(event_texts(&registry, &job), ["queued", "one", "two", "three"]);
}

#[test]
fn gaps_old_epochs_and_epochs_that_were_never_started_are_refused() {
    let (_dir, _registry, job, mut writer) = registry_with_job();
    let mut problem = |epoch, first| {
        send_events(&mut writer, &job, epoch, first, vec![message_event("x")]).unwrap().reconnect_reason
    };
    assert_eq!(problem(1, 2).unwrap(), "events 1 to 1 of epoch 1 are missing");
    assert_eq!(problem(2, 1).unwrap(), "epoch 2 was never started, 0 is current");
    assert_eq!(problem(1, 1), None);
    assert_eq!(problem(0, 1).unwrap(), "epoch 0 is over, 1 is current");
    assert_eq!(problem(2, 1), None);
    assert_eq!(problem(1, 2).unwrap(), "epoch 1 is over, 2 is current");
}

#[test]
fn a_record_is_written_at_once_when_the_state_changes_and_otherwise_a_little_later() {
    let (_dir, registry) = Registry::temporary();
    let job = launch(&registry, "a#1");
    let (mut writer, changes) = open_writer(&registry);
    let seq = || read::load_record(&registry, &job).unwrap().record.seq;
    let published_seq = |changes: &Changes| take_values(changes).get(&job).map(|record| record.seq);
    let now = Instant::now() + Duration::from_secs(1);
    let send_events = |writer: &mut Writer, first_seq, event: Event| {
        let command = events(writer, &job, first_seq, event, &LatestMap::new());
        writer.apply_and_commit([command], now);
    };
    send_events(&mut writer, 1, message_event("one"));
    send_events(&mut writer, 2, message_event("two"));
    assert_eq!((seq(), published_seq(&changes)), (1, Some(2)), "the core gets every change at once");
    let due = writer.next_due().unwrap();
    assert!(due > now && due <= now + Duration::from_millis(25));
    writer.run_due_work(due);
    assert_eq!((seq(), writer.next_due()), (2, None));
    send_events(&mut writer, 3, message_event("three"));
    send_events(&mut writer, 4, finished_event());
    let record = read::load_record(&registry, &job).unwrap().record;
    assert_eq!((record.seq, record.state), (4, State::Completed));
    assert_eq!((writer.next_due(), writer.open_jobs.len()), (None, 0));
}

#[test]
fn damaged_lines_are_set_aside_once_and_a_warning_names_the_lost_events() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    send_events(
        &mut writer,
        &job,
        1,
        1,
        vec![message_event("one"), message_event("two"), message_event("three")],
    )
    .unwrap();
    drop(writer);
    let log = registry.events(&job);
    let damaged = fs::read_to_string(&log).unwrap().replace("two", "TWO");
    fs::write(&log, &damaged).unwrap();
    // The state after a crash between the copy and the repair: the copy exists already.
    fs::write(log.path().with_extension("jsonl.corrupt-1"), &damaged).unwrap();
    for _ in 0..2 {
        let (mut writer, _) = open_writer(&registry);
        assert_eq!(event_texts(&registry, &job), ["queued", "one", "three", "warning"]);
        assert!(!log.path().with_extension("jsonl.corrupt-2").exists());
        let record = read::load_record(&registry, &job).unwrap().record;
        let warning = record.warning.unwrap();
        assert!(warning.ends_with("corrupt-1; the agent's events 2 to 2 of epoch 1 are lost"), "{warning}");
        let at = fs::read(log.path().with_extension("jsonl.corrupt-1")).unwrap();
        assert_eq!(String::from_utf8(at).unwrap(), damaged);
        assert_eq!(send_events(&mut writer, &job, 1, 3, vec![message_event("three")]).unwrap().seq, 3);
    }
}

#[test]
fn files_of_a_newer_relay_stay_unchanged_and_other_jobs_go_on() {
    let (_dir, registry) = Registry::temporary();
    let (newer, other) = (launch(&registry, "a#1"), launch(&registry, "b#1"));
    set_newer_schema(&registry, &newer);
    let third = launch(&registry, "c#1");
    let line = r#"{"v":2,"id":1,"job":"c#1","epoch":0,"seq":1,"crc":"fad4c8db"}"#.to_owned() + "\ntorn";
    fs::write(registry.events(&third), &line).unwrap();
    let before = fs::read(registry.record(&newer)).unwrap();
    let (mut writer, _) = open_writer(&registry);
    for job in [&newer, &third] {
        assert_eq!(
            send_events(&mut writer, job, 1, 1, vec![message_event("x")]),
            None,
            "the events wait at their agent"
        );
    }
    assert_eq!(fs::read(registry.record(&newer)).unwrap(), before);
    assert_eq!(fs::read_to_string(registry.events(&third)).unwrap(), line);
    assert!(!registry.events(&newer).exists());
    assert_eq!(send_events(&mut writer, &other, 1, 1, vec![message_event("x")]).unwrap().seq, 1);
}

#[test]
fn an_untrusted_log_is_rewritten_before_anything_is_acknowledged() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    send_events(&mut writer, &job, 1, 1, vec![message_event("one")]).unwrap();
    let old = fs::File::open(registry.events(&job)).unwrap();
    writer.open_job(&job).unwrap().event_file().mark_untrusted();
    assert_eq!(send_events(&mut writer, &job, 1, 2, vec![message_event("two")]).unwrap().seq, 2);
    assert_eq!(event_texts(&registry, &job), ["queued", "one", "two"]);
    let len = old.metadata().unwrap().len();
    assert!(fs::metadata(registry.events(&job)).unwrap().len() > len, "the old file was not written to");
    assert_eq!(send_events(&mut writer, &job, 1, 3, vec![finished_event()]).unwrap().seq, 3);
    assert_eq!(event_texts(&registry, &job), ["queued", "one", "two", "finished"]);
}

#[test]
fn lines_of_many_jobs_share_a_commit_and_descriptors_stay_few() {
    let (_dir, registry) = Registry::temporary();
    let jobs: Vec<JobId> = (1..=200).map(|n| launch(&registry, &format!("a#{n}"))).collect();
    let (mut writer, _) = open_writer(&registry);
    let receipts: Receipts = LatestMap::new();
    let batch = |job| events(&mut writer, job, 1, message_event("x"), &receipts);
    let commands: Vec<WriterCommand> = jobs.iter().map(batch).collect();
    writer.apply_and_commit(commands, Instant::now());
    let acked = take_values(&receipts);
    assert!(acked.len() == 200 && acked.values().all(|receipt| receipt.seq == 1));
    let mine = |link: std::path::PathBuf| link.starts_with(registry.dir());
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let descriptor_count = descriptors.filter(|fd| fs::read_link(fd.path()).is_ok_and(mine)).count();
    assert!(descriptor_count <= 64, "{descriptor_count} descriptors");
}

#[test]
fn environment_values_are_removed_when_a_job_is_accepted_or_ends_and_at_a_start() {
    let (_dir, registry) = Registry::temporary();
    let jobs = ["accepted#1", "ended#1", "queued#1", "left#1"].map(|job| launch(&registry, job));
    let write = |job: &JobId| {
        let spec = serde_json::json!({
            "schema": 1, "job": job, "runner": "shell", "prompt": "p", "workspace": "/w", "env": {"KEY": "s3cret"},
            "setup": [], "checks": [], "limits": {"job_ms": 1, "grace_ms": 1, "steps": {}},
            "codex": {"program": "codex", "model": null, "sandbox": "off", "args": []},
        });
        fs::write(registry.spec(job), spec.to_string()).unwrap();
    };
    jobs.iter().for_each(write);
    let holds =
        || jobs.each_ref().map(|job| fs::read_to_string(registry.spec(job)).unwrap().contains("s3cret"));
    let (mut writer, _changes) = open_writer(&registry);
    let [accepted, ended, _, left] = &jobs;
    let body = EventBody::Accepted {
        agent: "agent".to_owned(),
        isolation: common::event::Isolation::None,
        workspace_log: None,
    };
    for job in [accepted, left] {
        assert_eq!(
            send_events(&mut writer, job, 1, 1, vec![Event { body: body.clone(), ..message_event("") }])
                .unwrap()
                .seq,
            1
        );
    }
    writer.apply_and_commit([relay_end(ended)], Instant::now());
    assert_eq!(holds(), [false, false, true, false]);
    drop(writer);
    // The state after a relay was killed before it removed the values.
    for job in [accepted, ended, left] {
        write(job);
    }
    let _again = open_writer(&registry);
    assert_eq!(holds(), [false, false, true, false]);
    let names = fs::read_to_string(registry.spec(left)).unwrap();
    assert!(names.contains(r#""env_names":["KEY"]"#), "{names}");
}

/// Offers jobs to the agent; returns the answer to a query about their durable state.
fn query_offered_jobs(writer: &mut Writer, jobs: &[&JobId]) -> Vec<Durable> {
    for job in jobs {
        connection_id(writer, job);
    }
    query_durable(writer, jobs)
}

/// Returns the answer to a query about the durable state of jobs, which need not have been offered to the agent.
fn query_durable(writer: &mut Writer, jobs: &[&JobId]) -> Vec<Durable> {
    let (reply, mut durable) = oneshot::channel();
    let connection_id = ConnectionId { agent: "agent".into(), number: 1 };
    let jobs = jobs.iter().map(|job| JobProgress { job: (*job).clone(), epoch: 1, last_seq: 9 }).collect();
    writer.apply_and_commit([WriterCommand::QueryDurable { connection_id, jobs, reply }], Instant::now());
    durable.try_recv().unwrap()
}

#[test]
fn a_job_whose_files_fail_is_quarantined_and_other_jobs_of_its_agent_go_on() {
    let (_dir, registry) = Registry::temporary();
    let (bad, good) = (launch(&registry, "a#1"), launch(&registry, "b#1"));
    let (mut writer, _) = open_writer(&registry);
    drop(writer);
    let record = set_newer_schema(&registry, &bad);
    writer = open_writer(&registry).0;
    let answers = query_offered_jobs(&mut writer, &[&bad, &good]);
    assert_eq!(
        answers.iter().map(|answer| (&answer.job, answer.closed)).collect::<Vec<_>>(),
        [(&good, false)]
    );

    let now = Instant::now();
    let sends_bad = |writer: &mut Writer, receipts: &Receipts| {
        let command = events(writer, &bad, 1, message_event("one"), receipts);
        writer.apply_and_commit([command], now);
    };
    let (lost, receipts): (Receipts, Receipts) = (LatestMap::new(), LatestMap::new());
    // The agent reconnects meanwhile, so it has a second receipt map.
    for map in [&lost, &receipts] {
        sends_bad(&mut writer, map);
        assert_eq!(take_values(map), BTreeMap::new(), "the agent waits, and its connection stays open");
    }
    assert_eq!(send_events(&mut writer, &good, 1, 1, vec![message_event("one")]).unwrap().seq, 1);

    let check_at = writer.next_due().unwrap();
    assert!(check_at > now && check_at <= now + Duration::from_secs(2));
    writer.run_due_work(check_at);
    assert_eq!(take_values(&receipts), BTreeMap::new(), "the files still can't be read");
    fs::write(registry.record(&bad), record).unwrap();
    let check_at = writer.next_due().unwrap();
    writer.run_due_work(check_at);
    assert_eq!(reconnect_reason(&receipts, &bad), "its files can be read again");
    assert_eq!(query_offered_jobs(&mut writer, &[&bad, &good]).len(), 2);
    assert_eq!(send_events(&mut writer, &bad, 1, 1, vec![message_event("one")]).unwrap().seq, 1);
}

#[test]
fn an_agent_that_waits_for_a_bad_file_sends_everything_again_once_the_file_works() {
    let (_dir, registry) = Registry::temporary();
    let bad = launch(&registry, "a#1");
    let record = set_newer_schema(&registry, &bad);
    let (mut writer, _) = open_writer(&registry);
    let receipts: Receipts = LatestMap::new();
    let command = events(&mut writer, &bad, 1, message_event("one"), &receipts);
    writer.apply_and_commit([command], Instant::now());
    fs::write(registry.record(&bad), record).unwrap();
    // Another event of the job is recorded before the next check.
    writer.apply_and_commit([WriterCommand::OpenJob(bad.clone())], Instant::now());
    assert_eq!(reconnect_reason(&receipts, &bad), "its files can be read again");
}

#[test]
fn a_refusal_is_sent_even_if_the_same_commit_makes_other_events_durable() {
    let (_dir, _registry, job, mut writer) = registry_with_job();
    let receipts: Receipts = LatestMap::new();
    let sent = [message_event("one"), message_event("another")]
        .map(|event| events(&mut writer, &job, 1, event, &receipts));
    writer.apply_and_commit(sent, Instant::now());
    assert_eq!(reconnect_reason(&receipts, &job), "event 1 of a#1, epoch 1, differs from the recorded one");
}

#[test]
fn no_event_follows_an_end_that_the_relay_records_in_the_same_commit() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    let receipts: Receipts = LatestMap::new();
    let late = events(&mut writer, &job, 1, message_event("late"), &receipts);
    writer.apply_and_commit([relay_end(&job), late], Instant::now());
    assert_eq!(event_texts(&registry, &job), ["queued", "finished"]);
    assert_eq!(reconnect_reason(&receipts, &job), "it is unknown here, or has ended");
}

#[test]
fn after_unrecorded_output_an_end_is_refused_until_the_agent_reconnects() {
    let (_dir, registry) = Registry::temporary();
    let job = launch(&registry, "a#1");
    let record = set_newer_schema(&registry, &job);
    let (mut writer, _) = open_writer(&registry);
    let (from, receipts): (_, Receipts) = (connection_id(&mut writer, &job), LatestMap::new());
    let output = || {
        let (connection_id, job, receipts) = (from.clone(), job.clone(), receipts.clone());
        WriterCommand::Output {
            connection_id,
            job,
            epoch: 1,
            offset: 0,
            bytes: b"its cause\n".to_vec(),
            receipts,
        }
    };
    writer.apply_and_commit([output()], Instant::now());
    // The job's files can be read again before the next check.
    fs::write(registry.record(&job), record).unwrap();
    let end = |writer: &mut Writer| events(writer, &job, 1, finished_event(), &receipts);
    let early = end(&mut writer);
    writer.apply_and_commit([early], Instant::now());
    assert_eq!(read::load_record(&registry, &job).unwrap().record.state, State::Queued);
    assert!(
        take_values(&receipts).remove(&job).unwrap().reconnect_reason.is_some(),
        "the agent must reconnect"
    );

    assert_eq!(
        query_offered_jobs(&mut writer, &[&job]).iter().map(|answer| answer.output).collect::<Vec<_>>(),
        [0]
    );
    let late = end(&mut writer);
    writer.apply_and_commit([output(), late], Instant::now());
    assert_eq!(read::load_record(&registry, &job).unwrap().record.state, State::Completed);
    assert_eq!(fs::read_to_string(registry.log(&job).path()).unwrap(), "its cause\n");
}

#[test]
fn a_job_that_could_not_be_read_at_startup_still_belongs_to_its_agent() {
    let (_dir, registry) = Registry::temporary();
    let bad = launch(&registry, "a#1");
    let record = set_newer_schema(&registry, &bad);
    let (mut writer, _) = open_writer(&registry);
    fs::write(registry.record(&bad), record).unwrap();
    let closed: Vec<bool> = query_durable(&mut writer, &[&bad]).iter().map(|answer| answer.closed).collect();
    assert_eq!(closed, [false], "an earlier relay may have offered the job");
}

#[test]
fn the_end_of_a_job_whose_record_was_repaired_late_is_read_from_its_log() {
    let (_dir, registry) = Registry::temporary();
    let bad = launch(&registry, "a#1");
    let queued = fs::read_to_string(registry.record(&bad)).unwrap();
    let (mut writer, _) = open_writer(&registry);
    writer.apply_and_commit([relay_end(&bad)], Instant::now());
    drop(writer);
    // A power loss may keep the end in the log and lose it in the record.
    fs::write(registry.record(&bad), &queued).unwrap();
    set_newer_schema(&registry, &bad);
    let (mut writer, changes) = open_writer(&registry);
    fs::write(registry.record(&bad), &queued).unwrap();

    let found = read::find_job(&registry, &bad).unwrap();
    assert_eq!((found.record.state, found.is_record_stale), (State::Completed, true));
    writer.apply_and_commit([WriterCommand::OpenJob(bad.clone())], Instant::now());
    assert_eq!(read::load_record(&registry, &bad).unwrap().record.state, State::Completed);
    assert_eq!(take_values(&changes).get(&bad).map(|record| record.state), Some(State::Completed));
}

/// Ends this many jobs.
fn end_all(writer: &mut Writer, registry: &Registry, numbers: std::ops::RangeInclusive<u32>) {
    for n in numbers {
        let job = launch(registry, &format!("a#{n}"));
        writer.apply_and_commit([relay_end(&job)], Instant::now());
    }
}

/// Replaces a file by a folder. The folder can't be set aside, because every name for that is taken, too.
fn block_path(place: &Path) {
    fs::create_dir_all(place.join("x")).unwrap();
    let name = place.file_name().unwrap().to_str().unwrap();
    for n in 1..dir::MAX_SET_ASIDE {
        fs::write(place.with_file_name(format!("{}{name}-{n}", dir::SET_ASIDE_PREFIX)), "").unwrap();
    }
}

#[test]
fn jobs_are_archived_again_once_the_archive_can_be_written() {
    let (_dir, registry) = Registry::temporary();
    let (mut writer, _) = open_writer(&registry);
    let archive = registry.archive().path().to_owned();
    let archived = || read::jobs_in_folder(&registry.archive_registry()).unwrap().len();
    fs::remove_dir(&archive).unwrap();
    end_all(&mut writer, &registry, 1..=202);
    assert_eq!(archived(), 2, "the archive's folder was created again");
    let oldest = registry.archive_registry().record(&"a#3".parse().unwrap());
    block_path(oldest.path());
    end_all(&mut writer, &registry, 203..=204);
    fs::remove_dir_all(oldest.path()).unwrap();
    end_all(&mut writer, &registry, 205..=205);
    assert_eq!((archived(), read::jobs_in_folder(&registry).unwrap().len()), (5, 200), "no job was left out");
}

#[test]
fn an_unclaimed_notice_outlives_the_archiving_of_its_job() {
    let (_dir, registry) = Registry::temporary();
    let (mut writer, _) = open_writer(&registry);
    let jobs: [JobId; 2] = ["claimed#1", "unclaimed#1"].map(|job| launch(&registry, job));
    for job in &jobs {
        writer.apply_and_commit([relay_end(job)], Instant::now());
        let entry = outbox::OutboxEntry {
            schema: outbox::SCHEMA_VERSION,
            job: job.clone(),
            ended_at: crate::time::now(),
            session: None,
            channels: BTreeMap::new(),
        };
        outbox::write_entry(&registry, &entry).unwrap();
    }
    let claim = outbox::NoticeClaim { at: crate::time::now(), by: "wait".into(), session: None };
    assert!(outbox::claim_notice(&registry, &jobs[0], &claim).unwrap());
    end_all(&mut writer, &registry, 1..=201);
    let archived = read::jobs_in_folder(&registry.archive_registry()).unwrap();
    assert!(jobs.iter().all(|job| archived.contains(job)), "{archived:?}");
    assert_eq!(outbox::unclaimed_jobs(&registry).unwrap(), [jobs[1].clone()]);
    assert_eq!(outbox::read_entry(&registry, &jobs[0]).unwrap(), None);
}

#[test]
fn a_job_is_closed_once_its_last_record_could_be_written() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    send_events(&mut writer, &job, 1, 1, vec![message_event("one")]).unwrap();
    fs::remove_file(registry.record(&job)).unwrap();
    block_path(registry.record(&job).path());
    send_events(&mut writer, &job, 1, 2, vec![finished_event()]).unwrap();
    assert_eq!(writer.open_jobs.len(), 1, "the record shows no end yet");
    fs::remove_dir_all(registry.record(&job).path()).unwrap();
    let due = writer.next_due().unwrap();
    writer.run_due_work(due);
    assert_eq!((writer.open_jobs.len(), writer.next_due()), (0, None));
    assert_eq!(read::load_record(&registry, &job).unwrap().record.state, State::Completed);
}

#[test]
fn a_stream_is_opened_only_for_the_running_run_and_by_its_agent() {
    let (_dir, registry) = Registry::temporary();
    let job = launch(&registry, "demo#1");
    let (mut writer, _changes) = open_writer(&registry);
    let receipts = LatestMap::new();
    let own = connection_id(&mut writer, &job);
    let check = |writer: &mut Writer, connection_id: &ConnectionId, job: &str, epoch| {
        let (reply, mut answer) = oneshot::channel();
        let (connection_id, job) = (connection_id.clone(), job.parse().unwrap());
        let command = WriterCommand::CheckRun { connection_id, job, epoch, reply };
        writer.apply_and_commit([command], Instant::now());
        answer.try_recv().unwrap().map(|record| record.epoch)
    };
    let accepted = EventBody::Accepted {
        agent: "agent".into(),
        isolation: common::event::Isolation::None,
        workspace_log: None,
    };
    let accepted = events(&mut writer, &job, 1, Event { body: accepted, ..message_event("") }, &receipts);
    writer.apply_and_commit([accepted], Instant::now());
    assert_eq!(check(&mut writer, &own, "demo#1", 1), Ok(1));
    assert!(check(&mut writer, &own, "demo#1", 2).unwrap_err().contains("not the running one"));
    assert!(check(&mut writer, &own, "other#1", 1).unwrap_err().contains("unknown"));
    let foreign = ConnectionId { agent: "foreign".into(), number: 2 };
    assert!(writer.ownership.on_connect(&foreign));
    assert!(check(&mut writer, &foreign, "demo#1", 1).unwrap_err().contains("another agent"));
    let end = events(&mut writer, &job, 2, finished_event(), &receipts);
    writer.apply_and_commit([end], Instant::now());
    assert!(check(&mut writer, &own, "demo#1", 1).is_err());
}

fn result(state: ResultState) -> JobResult {
    JobResult {
        branch: "relay/a-1".to_owned(),
        base: "b".to_owned(),
        commit: Some("c".to_owned()),
        commits: 1,
        files: 1,
        insertions: 1,
        deletions: 0,
        state,
        note: None,
    }
}

fn relay_result(job: &JobId, state: ResultState) -> WriterCommand {
    let body = Box::new(EventBody::Result(Box::new(result(state))));
    WriterCommand::RecordRelayEvent { job: job.clone(), body }
}

#[test]
fn a_result_is_recorded_after_the_end_of_its_job_even_in_the_archive() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    let now = Instant::now();
    writer.apply_and_commit([relay_end(&job), relay_result(&job, ResultState::Open)], now);
    let stored = || read::load_record(&registry, &job).unwrap();
    assert_eq!(stored().record.result, Some(result(ResultState::Open)));
    assert!(stored().record.summary.unwrap().contains("result relay/a-1: 1 commit, 1 file +1 -0, not taken"));
    writer.apply_and_commit([relay_result(&job, ResultState::Applied)], now);
    assert_eq!(stored().record.result, Some(result(ResultState::Applied)));
    assert!(writer.open_jobs.is_empty());
    for file in [registry.spec(&job), registry.log(&job), registry.events(&job), registry.record(&job)] {
        let name = file.name().to_owned();
        let _ = file.rename(&registry.archive().file(name));
    }
    writer.apply_and_commit([relay_result(&job, ResultState::Merged)], now);
    assert_eq!(stored().registry, registry.archive_registry());
    assert_eq!(stored().record.result, Some(result(ResultState::Merged)));
    assert!(!registry.record(&job).exists() && writer.open_jobs.is_empty());
    let log = event_log::read_log(&registry.archive_registry().events(&job)).unwrap();
    let lines: Vec<EventLine> = log.lines.into_iter().collect();
    assert_eq!(JobRecord::rebuild(&lines).unwrap().result, Some(result(ResultState::Merged)));
    assert!(lines.windows(2).all(|pair| pair[0].id < pair[1].id && pair[0].seq < pair[1].seq));
}

#[test]
fn a_result_that_an_agent_sends_is_ignored() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    let body = EventBody::Result(Box::new(result(ResultState::Merged)));
    send_events(&mut writer, &job, 1, 1, vec![Event { body, ..message_event("") }, finished_event()]);
    let record = read::load_record(&registry, &job).unwrap().record;
    assert_eq!((record.state, record.result), (State::Completed, None));
}
