//! Tests of the writer on files that are damaged, from a newer relay, or can't be used for a while.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::record::State;

use super::command::Receipts;
use super::test_support::*;
use super::writer_loop::Writer;
use super::*;
use crate::daemon::latest_map::LatestMap;
use crate::registry::{Registry, read};

/// Changes a job's record to one that a newer relay has written; returns the old one.
fn set_newer_schema(registry: &Registry, job: &JobId) -> String {
    let record = fs::read_to_string(registry.record(job)).unwrap();
    fs::write(registry.record(job), record.replace("\"schema\":1", "\"schema\":2")).unwrap();
    record
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
