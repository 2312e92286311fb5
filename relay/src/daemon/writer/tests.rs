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

fn open(registry: &Registry) -> (Writer, Changes) {
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

fn said(text: impl Into<String>) -> Event {
    Event { at: "2026-01-02T03:04:05.678Z".parse().unwrap(), body: EventBody::Message { text: text.into() } }
}

fn finished() -> Event {
    let body =
        EventBody::Finished { state: FinalState::Completed, error: None, exit_code: Some(0), changes: None };
    Event { body, ..said("") }
}

/// Returns the command for a batch of one event of the job's agent.
fn events(writer: &mut Writer, job: &JobId, first_seq: u64, event: Event, to: &Receipts) -> WriterCommand {
    let connection_id = connection_id(writer, job);
    let (job, receipts) = (job.clone(), to.clone());
    WriterCommand::Events { connection_id, job, epoch: 1, first_seq, batch: vec![event], receipts }
}

/// Returns the command for an end that the relay itself records.
fn own_end(job: &JobId) -> WriterCommand {
    WriterCommand::RecordRelayEvent { job: job.clone(), body: Box::new(finished().body) }
}

/// Takes the receipt of a job whose agent must reconnect; returns the reason.
fn reconnect_reason(receipts: &Receipts, job: &JobId) -> String {
    taken(receipts).remove(job).unwrap().reconnect_reason.unwrap()
}

/// Changes a job's record to one that a newer relay has written; returns the old one.
fn make_newer(registry: &Registry, job: &JobId) -> String {
    let record = fs::read_to_string(registry.record(job)).unwrap();
    fs::write(registry.record(job), record.replace("\"schema\":1", "\"schema\":2")).unwrap();
    record
}

/// Creates a registry with the job `a#1`, and its writer.
fn with_job() -> (tempfile::TempDir, Registry, JobId, Writer) {
    let (dir, registry) = Registry::temporary();
    let job = launch(&registry, "a#1");
    let (writer, _) = open(&registry);
    (dir, registry, job, writer)
}

fn send(writer: &mut Writer, job: &JobId, epoch: u32, first_seq: u64, batch: Vec<Event>) -> Option<Receipt> {
    let receipts: Receipts = LatestMap::new();
    let connection_id = connection_id(writer, job);
    let (job_id, to) = (job.clone(), receipts.clone());
    let command = WriterCommand::Events { connection_id, job: job_id, epoch, first_seq, batch, receipts: to };
    writer.apply_and_commit([command], Instant::now());
    taken(&receipts).remove(job)
}

/// Takes the current values of a map.
fn taken<V>(map: &LatestMap<JobId, V>) -> BTreeMap<JobId, V> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::ZERO, map.take_all()).await.unwrap_or_default() })
}

fn texts(registry: &Registry, job: &JobId) -> Vec<String> {
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
fn a_repeat_is_dropped_and_other_content_of_its_number_refused_after_a_restart_too() {
    let (_dir, registry, job, mut writer) = with_job();
    let acked = |seq| Some(Receipt { epoch: 1, seq, output_offset: 0, reconnect_reason: None });
    assert_eq!(send(&mut writer, &job, 1, 1, vec![said("one"), said("two")]), acked(2));
    assert_eq!(send(&mut writer, &job, 1, 1, vec![said("one"), said("two"), said("three")]), acked(3));
    for _ in 0..2 {
        let problem =
            send(&mut writer, &job, 1, 2, vec![said("another"), said("three")]).unwrap().reconnect_reason;
        assert_eq!(problem.unwrap(), "event 2 of a#1, epoch 1, differs from the recorded one");
        assert_eq!(send(&mut writer, &job, 1, 2, vec![said("two"), said("three")]), acked(3));
        writer = open(&registry).0;
    }
    assert_eq!(texts(&registry, &job), ["queued", "one", "two", "three"]);
}

#[test]
fn gaps_old_epochs_and_epochs_that_were_never_started_are_refused() {
    let (_dir, _registry, job, mut writer) = with_job();
    let mut problem =
        |epoch, first| send(&mut writer, &job, epoch, first, vec![said("x")]).unwrap().reconnect_reason;
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
    let (mut writer, changes) = open(&registry);
    let seq = || read::load_record(&registry, &job).unwrap().record.seq;
    let told = |changes: &Changes| taken(changes).get(&job).map(|record| record.seq);
    let now = Instant::now() + Duration::from_secs(1);
    let send = |writer: &mut Writer, first_seq, event: Event| {
        let command = events(writer, &job, first_seq, event, &LatestMap::new());
        writer.apply_and_commit([command], now);
    };
    send(&mut writer, 1, said("one"));
    send(&mut writer, 2, said("two"));
    assert_eq!((seq(), told(&changes)), (1, Some(2)), "the core hears of everything at once");
    let due = writer.next_due().unwrap();
    assert!(due > now && due <= now + Duration::from_millis(25));
    writer.run_due_work(due);
    assert_eq!((seq(), writer.next_due()), (2, None));
    send(&mut writer, 3, said("three"));
    send(&mut writer, 4, finished());
    let record = read::load_record(&registry, &job).unwrap().record;
    assert_eq!((record.seq, record.state), (4, State::Completed));
    assert_eq!((writer.next_due(), writer.open_jobs.len()), (None, 0));
}

#[test]
fn damage_in_the_middle_is_set_aside_once_with_a_warning_that_says_what_is_lost() {
    let (_dir, registry, job, mut writer) = with_job();
    send(&mut writer, &job, 1, 1, vec![said("one"), said("two"), said("three")]).unwrap();
    drop(writer);
    let log = registry.events(&job);
    let damaged = fs::read_to_string(&log).unwrap().replace("two", "TWO");
    fs::write(&log, &damaged).unwrap();
    // The state after a crash between the copy and the repair: the copy exists already.
    fs::write(log.path().with_extension("jsonl.corrupt-1"), &damaged).unwrap();
    for _ in 0..2 {
        let (mut writer, _) = open(&registry);
        assert_eq!(texts(&registry, &job), ["queued", "one", "three", "warning"]);
        assert!(!log.path().with_extension("jsonl.corrupt-2").exists());
        let record = read::load_record(&registry, &job).unwrap().record;
        let warning = record.warning.unwrap();
        assert!(warning.ends_with("corrupt-1; the agent's events 2 to 2 of epoch 1 are lost"), "{warning}");
        let at = fs::read(log.path().with_extension("jsonl.corrupt-1")).unwrap();
        assert_eq!(String::from_utf8(at).unwrap(), damaged);
        assert_eq!(send(&mut writer, &job, 1, 3, vec![said("three")]).unwrap().seq, 3);
    }
}

#[test]
fn what_a_newer_relay_has_written_is_left_as_it_is_and_other_jobs_go_on() {
    let (_dir, registry) = Registry::temporary();
    let (newer, other) = (launch(&registry, "a#1"), launch(&registry, "b#1"));
    make_newer(&registry, &newer);
    let third = launch(&registry, "c#1");
    let line = r#"{"v":2,"id":1,"job":"c#1","epoch":0,"seq":1,"crc":"fad4c8db"}"#.to_owned() + "\ntorn";
    fs::write(registry.events(&third), &line).unwrap();
    let before = fs::read(registry.record(&newer)).unwrap();
    let (mut writer, _) = open(&registry);
    for job in [&newer, &third] {
        assert_eq!(send(&mut writer, job, 1, 1, vec![said("x")]), None, "its events wait at their agent");
    }
    assert_eq!(fs::read(registry.record(&newer)).unwrap(), before);
    assert_eq!(fs::read_to_string(registry.events(&third)).unwrap(), line);
    assert!(!registry.events(&newer).exists());
    assert_eq!(send(&mut writer, &other, 1, 1, vec![said("x")]).unwrap().seq, 1);
}

#[test]
fn a_log_that_is_distrusted_is_written_anew_before_anything_is_acknowledged() {
    let (_dir, registry, job, mut writer) = with_job();
    send(&mut writer, &job, 1, 1, vec![said("one")]).unwrap();
    let old = fs::File::open(registry.events(&job)).unwrap();
    writer.open_job(&job).unwrap().event_file().mark_untrusted();
    assert_eq!(send(&mut writer, &job, 1, 2, vec![said("two")]).unwrap().seq, 2);
    assert_eq!(texts(&registry, &job), ["queued", "one", "two"]);
    let len = old.metadata().unwrap().len();
    assert!(fs::metadata(registry.events(&job)).unwrap().len() > len, "the old file was not written to");
    assert_eq!(send(&mut writer, &job, 1, 3, vec![finished()]).unwrap().seq, 3);
    assert_eq!(texts(&registry, &job), ["queued", "one", "two", "finished"]);
}

#[test]
fn lines_of_many_jobs_share_a_commit_and_descriptors_stay_few() {
    let (_dir, registry) = Registry::temporary();
    let jobs: Vec<JobId> = (1..=200).map(|n| launch(&registry, &format!("a#{n}"))).collect();
    let (mut writer, _) = open(&registry);
    let receipts: Receipts = LatestMap::new();
    let batch = |job| events(&mut writer, job, 1, said("x"), &receipts);
    let commands: Vec<WriterCommand> = jobs.iter().map(batch).collect();
    writer.apply_and_commit(commands, Instant::now());
    let acked = taken(&receipts);
    assert!(acked.len() == 200 && acked.values().all(|receipt| receipt.seq == 1));
    let mine = |link: std::path::PathBuf| link.starts_with(registry.dir());
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter(|fd| fs::read_link(fd.path()).is_ok_and(mine)).count();
    assert!(open <= 64, "{open} descriptors");
}

#[test]
fn environment_values_leave_the_spec_when_a_job_is_accepted_or_ends_and_at_a_start() {
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
    let (mut writer, _changes) = open(&registry);
    let [accepted, ended, _, left] = &jobs;
    let body = EventBody::Accepted {
        agent: "agent".to_owned(),
        isolation: common::event::Isolation::None,
        workspace_log: None,
    };
    for job in [accepted, left] {
        assert_eq!(
            send(&mut writer, job, 1, 1, vec![Event { body: body.clone(), ..said("") }]).unwrap().seq,
            1
        );
    }
    writer.apply_and_commit([own_end(ended)], Instant::now());
    assert_eq!(holds(), [false, false, true, false]);
    drop(writer);
    // The state after a relay was killed before it removed the values.
    for job in [accepted, ended, left] {
        write(job);
    }
    let _again = open(&registry);
    assert_eq!(holds(), [false, false, true, false]);
    let names = fs::read_to_string(registry.spec(left)).unwrap();
    assert!(names.contains(r#""env_names":["KEY"]"#), "{names}");
}

/// Returns the answer to a connection about the jobs that its agent holds.
fn held(writer: &mut Writer, jobs: &[&JobId]) -> Vec<Durable> {
    for job in jobs {
        connection_id(writer, job);
    }
    asked(writer, jobs)
}

/// Returns the answer to a connection about jobs, whether they were offered to its agent or not.
fn asked(writer: &mut Writer, jobs: &[&JobId]) -> Vec<Durable> {
    let (reply, mut durable) = oneshot::channel();
    let connection_id = ConnectionId { agent: "agent".into(), number: 1 };
    let jobs = jobs.iter().map(|job| JobProgress { job: (*job).clone(), epoch: 1, last_seq: 9 }).collect();
    writer.apply_and_commit([WriterCommand::QueryDurable { connection_id, jobs, reply }], Instant::now());
    durable.try_recv().unwrap()
}

#[test]
fn a_job_whose_files_fail_is_set_apart_and_its_agent_s_other_jobs_go_on() {
    let (_dir, registry) = Registry::temporary();
    let (bad, good) = (launch(&registry, "a#1"), launch(&registry, "b#1"));
    let (mut writer, _) = open(&registry);
    drop(writer);
    let record = make_newer(&registry, &bad);
    writer = open(&registry).0;
    let told = held(&mut writer, &[&bad, &good]);
    assert_eq!(told.iter().map(|held| (&held.job, held.closed)).collect::<Vec<_>>(), [(&good, false)]);

    let now = Instant::now();
    let sends_bad = |writer: &mut Writer, receipts: &Receipts| {
        let command = events(writer, &bad, 1, said("one"), receipts);
        writer.apply_and_commit([command], now);
    };
    let (lost, receipts): (Receipts, Receipts) = (LatestMap::new(), LatestMap::new());
    // Its agent reconnects meanwhile.
    for map in [&lost, &receipts] {
        sends_bad(&mut writer, map);
        assert_eq!(taken(map), BTreeMap::new(), "it waits, and its connection goes on");
    }
    assert_eq!(send(&mut writer, &good, 1, 1, vec![said("one")]).unwrap().seq, 1);

    let look = writer.next_due().unwrap();
    assert!(look > now && look <= now + Duration::from_secs(2));
    writer.run_due_work(look);
    assert_eq!(taken(&receipts), BTreeMap::new(), "still not readable");
    fs::write(registry.record(&bad), record).unwrap();
    let look = writer.next_due().unwrap();
    writer.run_due_work(look);
    assert_eq!(reconnect_reason(&receipts, &bad), "its files can be read again");
    assert_eq!(held(&mut writer, &[&bad, &good]).len(), 2);
    assert_eq!(send(&mut writer, &bad, 1, 1, vec![said("one")]).unwrap().seq, 1);
}

#[test]
fn an_agent_that_waits_for_a_bad_file_sends_everything_again_once_the_file_works() {
    let (_dir, registry) = Registry::temporary();
    let bad = launch(&registry, "a#1");
    let record = make_newer(&registry, &bad);
    let (mut writer, _) = open(&registry);
    let receipts: Receipts = LatestMap::new();
    let command = events(&mut writer, &bad, 1, said("one"), &receipts);
    writer.apply_and_commit([command], Instant::now());
    fs::write(registry.record(&bad), record).unwrap();
    // Another event of the job is recorded before the next check.
    writer.apply_and_commit([WriterCommand::OpenJob(bad.clone())], Instant::now());
    assert_eq!(reconnect_reason(&receipts, &bad), "its files can be read again");
}

#[test]
fn a_refusal_is_told_whatever_else_becomes_durable_with_it() {
    let (_dir, _registry, job, mut writer) = with_job();
    let receipts: Receipts = LatestMap::new();
    let sent = [said("one"), said("another")].map(|event| events(&mut writer, &job, 1, event, &receipts));
    writer.apply_and_commit(sent, Instant::now());
    assert_eq!(reconnect_reason(&receipts, &job), "event 1 of a#1, epoch 1, differs from the recorded one");
}

#[test]
fn nothing_follows_an_end_that_the_relay_records_in_the_same_commit() {
    let (_dir, registry, job, mut writer) = with_job();
    let receipts: Receipts = LatestMap::new();
    let late = events(&mut writer, &job, 1, said("late"), &receipts);
    writer.apply_and_commit([own_end(&job), late], Instant::now());
    assert_eq!(texts(&registry, &job), ["queued", "finished"]);
    assert_eq!(reconnect_reason(&receipts, &job), "it is unknown here, or has ended");
}

#[test]
fn an_end_is_not_taken_behind_output_that_was_not_until_the_agent_has_come_back() {
    let (_dir, registry) = Registry::temporary();
    let job = launch(&registry, "a#1");
    let record = make_newer(&registry, &job);
    let (mut writer, _) = open(&registry);
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
    // Its files can be read again before the next check.
    fs::write(registry.record(&job), record).unwrap();
    let end = |writer: &mut Writer| events(writer, &job, 1, finished(), &receipts);
    let early = end(&mut writer);
    writer.apply_and_commit([early], Instant::now());
    assert_eq!(read::load_record(&registry, &job).unwrap().record.state, State::Queued);
    assert!(taken(&receipts).remove(&job).unwrap().reconnect_reason.is_some(), "it is told to come back");

    assert_eq!(held(&mut writer, &[&job]).iter().map(|held| held.output).collect::<Vec<_>>(), [0]);
    let late = end(&mut writer);
    writer.apply_and_commit([output(), late], Instant::now());
    assert_eq!(read::load_record(&registry, &job).unwrap().record.state, State::Completed);
    assert_eq!(fs::read_to_string(registry.log(&job).path()).unwrap(), "its cause\n");
}

#[test]
fn a_job_that_could_not_be_read_at_the_start_is_still_its_agent_s() {
    let (_dir, registry) = Registry::temporary();
    let bad = launch(&registry, "a#1");
    let record = make_newer(&registry, &bad);
    let (mut writer, _) = open(&registry);
    fs::write(registry.record(&bad), record).unwrap();
    let told: Vec<bool> = asked(&mut writer, &[&bad]).iter().map(|held| held.closed).collect();
    assert_eq!(told, [false], "the relay that died had offered it");
}

#[test]
fn the_end_of_a_job_whose_record_was_put_right_late_is_taken_from_its_log() {
    let (_dir, registry) = Registry::temporary();
    let bad = launch(&registry, "a#1");
    let queued = fs::read_to_string(registry.record(&bad)).unwrap();
    let (mut writer, _) = open(&registry);
    writer.apply_and_commit([own_end(&bad)], Instant::now());
    drop(writer);
    // A power loss may keep the end in the log and lose it in the record.
    fs::write(registry.record(&bad), &queued).unwrap();
    make_newer(&registry, &bad);
    let (mut writer, changes) = open(&registry);
    fs::write(registry.record(&bad), &queued).unwrap();

    let found = read::find_job(&registry, &bad).unwrap();
    assert_eq!((found.record.state, found.record_is_stale), (State::Completed, true));
    writer.apply_and_commit([WriterCommand::OpenJob(bad.clone())], Instant::now());
    assert_eq!(read::load_record(&registry, &bad).unwrap().record.state, State::Completed);
    assert_eq!(taken(&changes).get(&bad).map(|record| record.state), Some(State::Completed));
}

/// Ends this many jobs.
fn end_all(writer: &mut Writer, registry: &Registry, numbers: std::ops::RangeInclusive<u32>) {
    for n in numbers {
        let job = launch(registry, &format!("a#{n}"));
        writer.apply_and_commit([own_end(&job)], Instant::now());
    }
}

/// Puts a folder in place of a file. It can't be set aside, because every name for that is taken, too.
fn take_place(place: &Path) {
    fs::create_dir_all(place.join("x")).unwrap();
    let name = place.file_name().unwrap().to_str().unwrap();
    for n in 1..dir::MAX_SET_ASIDE {
        fs::write(place.with_file_name(format!("{}{name}-{n}", dir::SET_ASIDE_PREFIX)), "").unwrap();
    }
}

#[test]
fn jobs_are_archived_again_once_the_folder_for_them_can_be_made() {
    let (_dir, registry) = Registry::temporary();
    let (mut writer, _) = open(&registry);
    let archive = registry.archive().path().to_owned();
    let archived = || read::unarchived_jobs(&registry.archived()).unwrap().len();
    fs::remove_dir(&archive).unwrap();
    end_all(&mut writer, &registry, 1..=202);
    assert_eq!(archived(), 2, "its folder was made anew");
    let oldest = registry.archived().record(&"a#3".parse().unwrap());
    take_place(oldest.path());
    end_all(&mut writer, &registry, 203..=204);
    fs::remove_dir_all(oldest.path()).unwrap();
    end_all(&mut writer, &registry, 205..=205);
    assert_eq!((archived(), read::unarchived_jobs(&registry).unwrap().len()), (5, 200), "none is forgotten");
}

#[test]
fn a_notice_that_nobody_was_shown_outlives_the_archiving_of_its_job() {
    let (_dir, registry) = Registry::temporary();
    let (mut writer, _) = open(&registry);
    let jobs: [JobId; 2] = ["told#1", "untold#1"].map(|job| launch(&registry, job));
    for job in &jobs {
        writer.apply_and_commit([own_end(job)], Instant::now());
        let entry = outbox::OutboxEntry {
            schema: outbox::SCHEMA,
            job: job.clone(),
            ended_at: crate::time::now(),
            session: None,
            channels: BTreeMap::new(),
        };
        outbox::write_entry(&registry, &entry).unwrap();
    }
    let shown = outbox::NoticeClaim { at: crate::time::now(), by: "wait".into(), session: None };
    assert!(outbox::claim_notice(&registry, &jobs[0], &shown).unwrap());
    end_all(&mut writer, &registry, 1..=201);
    let archived = read::unarchived_jobs(&registry.archived()).unwrap();
    assert!(jobs.iter().all(|job| archived.contains(job)), "{archived:?}");
    assert_eq!(outbox::unclaimed_jobs(&registry).unwrap(), [jobs[1].clone()]);
    assert_eq!(outbox::read_entry(&registry, &jobs[0]).unwrap(), None);
}

#[test]
fn a_job_whose_last_record_could_not_be_written_at_first_is_closed_when_it_is() {
    let (_dir, registry, job, mut writer) = with_job();
    send(&mut writer, &job, 1, 1, vec![said("one")]).unwrap();
    fs::remove_file(registry.record(&job)).unwrap();
    take_place(registry.record(&job).path());
    send(&mut writer, &job, 1, 2, vec![finished()]).unwrap();
    assert_eq!(writer.open_jobs.len(), 1, "its record tells no end yet");
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
    let (mut writer, _changes) = open(&registry);
    let receipts = LatestMap::new();
    let own = connection_id(&mut writer, &job);
    let check = |writer: &mut Writer, connection_id: &ConnectionId, job: &str, epoch| {
        let (reply, mut answer) = oneshot::channel();
        let (connection_id, job) = (connection_id.clone(), job.parse().unwrap());
        let command = WriterCommand::CheckRun { connection_id, job, epoch, reply };
        writer.apply_and_commit([command], Instant::now());
        answer.try_recv().unwrap()
    };
    let accepted = EventBody::Accepted {
        agent: "agent".into(),
        isolation: common::event::Isolation::None,
        workspace_log: None,
    };
    let accepted = events(&mut writer, &job, 1, Event { body: accepted, ..said("") }, &receipts);
    writer.apply_and_commit([accepted], Instant::now());
    assert_eq!(check(&mut writer, &own, "demo#1", 1), Ok(()));
    assert!(check(&mut writer, &own, "demo#1", 2).unwrap_err().contains("not the running one"));
    assert!(check(&mut writer, &own, "other#1", 1).unwrap_err().contains("unknown"));
    let foreign = ConnectionId { agent: "foreign".into(), number: 2 };
    assert!(writer.ownership.on_connect(&foreign));
    assert!(check(&mut writer, &foreign, "demo#1", 1).unwrap_err().contains("another agent"));
    let end = events(&mut writer, &job, 2, finished(), &receipts);
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

fn own_result(job: &JobId, state: ResultState) -> WriterCommand {
    let body = Box::new(EventBody::Result(Box::new(result(state))));
    WriterCommand::RecordRelayEvent { job: job.clone(), body }
}

#[test]
fn a_result_follows_the_end_of_its_job_in_the_archive_too() {
    let (_dir, registry, job, mut writer) = with_job();
    let now = Instant::now();
    writer.apply_and_commit([own_end(&job), own_result(&job, ResultState::Open)], now);
    let stored = || read::load_record(&registry, &job).unwrap();
    assert_eq!(stored().record.result, Some(result(ResultState::Open)));
    assert!(stored().record.summary.unwrap().contains("result relay/a-1: 1 commit, 1 file +1 -0, not taken"));
    writer.apply_and_commit([own_result(&job, ResultState::Applied)], now);
    assert_eq!(stored().record.result, Some(result(ResultState::Applied)));
    assert!(writer.open_jobs.is_empty());
    for file in [registry.spec(&job), registry.log(&job), registry.events(&job), registry.record(&job)] {
        let name = file.name().to_owned();
        let _ = file.rename(&registry.archive().file(name));
    }
    writer.apply_and_commit([own_result(&job, ResultState::Merged)], now);
    assert_eq!(stored().registry, registry.archived());
    assert_eq!(stored().record.result, Some(result(ResultState::Merged)));
    assert!(!registry.record(&job).exists() && writer.open_jobs.is_empty());
    let log = event_log::read_log(&registry.archived().events(&job)).unwrap();
    let lines: Vec<EventLine> = log.lines.into_iter().collect();
    assert_eq!(JobRecord::rebuild(&lines).unwrap().result, Some(result(ResultState::Merged)));
    assert!(lines.windows(2).all(|pair| pair[0].id < pair[1].id && pair[0].seq < pair[1].seq));
}

#[test]
fn an_agent_s_word_about_a_result_does_not_count() {
    let (_dir, registry, job, mut writer) = with_job();
    let body = EventBody::Result(Box::new(result(ResultState::Merged)));
    send(&mut writer, &job, 1, 1, vec![Event { body, ..said("") }, finished()]);
    let record = read::load_record(&registry, &job).unwrap().record;
    assert_eq!((record.state, record.result), (State::Completed, None));
}
