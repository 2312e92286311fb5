//! Many logs read as one.

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

    /// Appends an event with this id to a job's log.
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
        fs::rename(self.registry.events(&job), self.registry.archived().events(&job)).unwrap();
    }

    fn read(&self, job: Option<&str>, since: u64, until: u64) -> Vec<u64> {
        let job = job.map(|job| job.parse().unwrap());
        let mut history = EventHistory::open(&self.registry, job.as_ref(), since, until).unwrap();
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
        turns in prop::collection::vec(0..40_usize, 1..600),
        since in 0..700_u64,
        spare in 0..20_u64,
    ) {
        let logs = Logs::new();
        for (id, job) in (1..).zip(&turns) {
            logs.add(&format!("job#{}", job + 1), id);
        }
        let until = (turns.len() as u64).saturating_sub(spare);
        let expected: Vec<u64> = (since + 1..=until).collect();
        prop_assert_eq!(logs.read(None, since, until), expected);
        let of_one = (1..).zip(&turns).filter(|(id, job)| **job == 3 && (since + 1..=until).contains(id));
        let of_one: Vec<u64> = of_one.map(|(id, _)| id).collect();
        prop_assert_eq!(logs.read(Some("job#4"), since, until), of_one);
    }
}

#[test]
fn a_long_log_is_entered_at_every_place() {
    let logs = Logs::new();
    let bytes: Vec<u8> = (1..=2000).flat_map(|id| line("a#1", 2 * id)).collect();
    logs.add_bytes("a#1", &bytes);
    for since in (0..=4001).step_by(7) {
        let place = LogCursor::open_after(&logs.registry.events(&"a#1".parse().unwrap()), since).unwrap();
        let expected = Some(since / 2 * 2 + 2).filter(|id| *id <= 4000);
        assert_eq!(place.map(|place| place.id()), expected, "behind {since}");
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
fn a_cursor_reaches_into_the_archive_and_a_beginning_does_not() {
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
fn a_job_that_is_archived_while_it_is_read_is_read_on() {
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
