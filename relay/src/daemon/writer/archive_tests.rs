//! Tests of the writer after the ends of jobs: archive, notices and results.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use common::event::{Event, EventBody};
use common::event_line::EventLine;
use common::ids::JobId;
use common::record::{JobRecord, State};
use common::result::{JobResult, ResultState};

use super::test_support::*;
use super::writer_loop::Writer;
use super::*;
use crate::files::dir;
use crate::registry::{Registry, event_log, outbox, read};

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
