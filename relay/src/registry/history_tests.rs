//! Tests of many event logs that are read as one.

use std::fs;

use common::event::{Event, EventBody};
use common::event_line::{EventLine, Source};
use proptest::prelude::*;

use super::*;

struct Logs {
    _dir: tempfile::TempDir,
    registry: Registry,
}

impl Logs {
    fn new() -> Self {
        let (dir, registry) = Registry::temporary();
        Self { _dir: dir, registry }
    }

    /// Appends an event with this id to a job's event log.
    fn add(&self, job: &str, id: u64) {
        self.add_bytes(job, &line(job, id));
    }

    fn add_bytes(&self, job: &str, bytes: &[u8]) {
        let path = self.registry.events(&job.parse().unwrap());
        let mut log = fs::read(&path).unwrap_or_default();
        log.extend_from_slice(bytes);
        fs::write(path, log).unwrap();
    }

    fn archive(&self, job: &str) {
        let job = job.parse().unwrap();
        fs::rename(self.registry.events(&job), self.registry.archive_registry().events(&job)).unwrap();
    }

    fn read(&self, job: Option<&str>, since: u64, last_id: u64) -> Vec<u64> {
        let job = job.map(|job| job.parse().unwrap());
        let mut history = EventHistory::open(&self.registry, job.as_ref(), since, last_id).unwrap();
        let mut ids = Vec::new();
        while !history.is_over() {
            let chunk = history.next_chunk().unwrap();
            ids.extend(chunk.lines().map(|(id, _)| id));
            for (id, text) in chunk.lines() {
                assert_eq!(EventLine::parse(text).unwrap().id, id);
            }
        }
        ids
    }
}

fn line(job: &str, id: u64) -> Vec<u8> {
    // The lengths differ widely, so that offsets in the file say nothing about ids.
    let text = "x".repeat(usize::try_from(id * 7919 % 997).unwrap());
    let event = Event { at: jiff::Timestamp::UNIX_EPOCH, body: EventBody::Message { text } };
    let job = job.parse().unwrap();
    EventLine { id, job, epoch: 1, seq: id, source: Source::Agent, event: Some(event) }.to_bytes().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_event_of_every_job_comes_once_in_order_from_any_cursor(
        jobs_by_event in prop::collection::vec(0..40_usize, 1..600),
        since in 0..700_u64,
        unread_count in 0..20_u64,
    ) {
        let logs = Logs::new();
        for (id, job) in (1..).zip(&jobs_by_event) {
            logs.add(&format!("job#{}", job + 1), id);
        }
        let last_id = (jobs_by_event.len() as u64).saturating_sub(unread_count);
        let expected: Vec<u64> = (since + 1..=last_id).collect();
        prop_assert_eq!(logs.read(None, since, last_id), expected);
        let expected_of_one = (1..).zip(&jobs_by_event).filter(|(id, job)| **job == 3 && (since + 1..=last_id).contains(id));
        let expected_of_one: Vec<u64> = expected_of_one.map(|(id, _)| id).collect();
        prop_assert_eq!(logs.read(Some("job#4"), since, last_id), expected_of_one);
    }
}

#[test]
fn a_long_log_can_be_opened_after_every_id() {
    let logs = Logs::new();
    let bytes: Vec<u8> = (1..=2000).flat_map(|id| line("a#1", 2 * id)).collect();
    logs.add_bytes("a#1", &bytes);
    for since in (0..=4001).step_by(7) {
        let cursor = LogCursor::open_after(&logs.registry.events(&"a#1".parse().unwrap()), since).unwrap();
        let expected = Some(since / 2 * 2 + 2).filter(|id| *id <= 4000);
        assert_eq!(cursor.map(|cursor| cursor.id()), expected, "after {since}");
    }
}

#[test]
fn damaged_lines_and_a_torn_tail_are_left_out() {
    let logs = Logs::new();
    for id in 1..=3 {
        let mut bytes = line("a#1", id);
        if id == 2 {
            bytes[30] ^= 1;
        }
        logs.add_bytes("a#1", &bytes);
    }
    logs.add_bytes("a#1", &line("a#1", 4)[..50]);
    assert_eq!(logs.read(None, 0, 9), [1, 3]);
    assert_eq!(logs.read(None, 2, 9), [3]);
    assert_eq!(logs.read(None, 3, 9), [0; 0]);
}

#[test]
fn a_reader_that_continues_gets_archived_events_and_a_new_reader_does_not() {
    let logs = Logs::new();
    for (id, job) in [(1, "a#1"), (2, "b#1"), (3, "a#1"), (4, "b#1")] {
        logs.add(job, id);
    }
    logs.archive("a#1");
    assert_eq!(logs.read(None, 0, 4), [2, 4]);
    assert_eq!(logs.read(None, 1, 4), [2, 3, 4]);
    assert_eq!(logs.read(Some("a#1"), 0, 4), [1, 3]);
}

#[test]
fn a_job_that_is_archived_while_it_is_read_is_read_to_its_end() {
    let logs = Logs::new();
    for id in 1..=400 {
        logs.add(if id % 2 == 0 { "a#1" } else { "b#1" }, id);
    }
    let mut history = EventHistory::open(&logs.registry, None, 0, 400).unwrap();
    let mut ids: Vec<u64> = history.next_chunk().unwrap().lines().map(|(id, _)| id).collect();
    assert!(!history.is_over());
    logs.archive("a#1");
    while !history.is_over() {
        // Simulates too many open logs.
        history.logs_by_next_id.values_mut().for_each(|log| log.open_cursor = None);
        ids.extend(history.next_chunk().unwrap().lines().map(|(id, _)| id));
    }
    assert_eq!(ids, (1..=400).collect::<Vec<_>>());
}
