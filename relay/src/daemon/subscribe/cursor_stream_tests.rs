//! Tests of the stream: no event is lost or repeated when it changes between files and memory.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;

use common::event::{Event, EventBody};
use common::event_line::{EventLine, Source};

use super::*;

struct Publisher {
    _dir: tempfile::TempDir,
    registry: Registry,
    broadcast: Broadcast,
    next_id: u64,
}

impl Publisher {
    fn new() -> Self {
        let (dir, registry) = Registry::temporary();
        Self { _dir: dir, registry, broadcast: Broadcast::new(), next_id: 1 }
    }

    /// Writes events of these jobs to their logs, as a commit of the writer does, and publishes them.
    fn commit(&mut self, jobs: &[&str], text: &str) {
        let mut batch = self.broadcast.begin_batch();
        let mut logs = BTreeMap::<&str, Vec<u8>>::new();
        for (id, job) in (self.next_id..).zip(jobs) {
            let event =
                Event { at: jiff::Timestamp::UNIX_EPOCH, body: EventBody::Message { text: text.to_owned() } };
            let job_id = job.parse().unwrap();
            let line =
                EventLine { id, job: job_id, epoch: 1, seq: id, source: Source::Agent, event: Some(event) };
            logs.entry(job).or_default().extend(line.to_bytes().unwrap());
        }
        // The last job comes first, because the writer adds lines by job, not by id.
        for (job, lines) in logs.iter().rev() {
            let job = job.parse().unwrap();
            let mut log =
                OpenOptions::new().append(true).create(true).open(self.registry.events(&job)).unwrap();
            log.write_all(lines).unwrap();
            batch.add(&job, lines);
        }
        self.next_id += jobs.len() as u64;
        self.broadcast.publish(batch, self.next_id - 1);
    }

    fn stream(&self, job: Option<&str>, since: Option<u64>) -> CursorStream {
        let job = job.map(|job| job.parse().unwrap());
        CursorStream::new(&self.broadcast, &self.registry, Arc::new(Semaphore::new(1)), job, since)
    }
}

/// Reads events up to the event with the id `last`; returns all ids.
async fn read(stream: &mut CursorStream, last: u64) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.last().is_none_or(|id| *id < last) {
        ids.extend(stream.next().await.unwrap().lines().map(|(id, _)| id));
    }
    ids
}

#[tokio::test]
async fn past_and_new_events_come_once_and_in_order() {
    let mut publisher = Publisher::new();
    publisher.commit(&["a#1", "b#1", "a#1"], "old");
    let mut all_jobs = publisher.stream(None, Some(0));
    let mut one_job = publisher.stream(Some("b#1"), Some(0));
    let mut new_events = publisher.stream(None, None);
    publisher.commit(&["b#1", "a#1"], "new");
    assert_eq!(read(&mut all_jobs, 5).await, [1, 2, 3, 4, 5]);
    publisher.commit(&["c#1", "b#1"], "newer");
    assert_eq!(read(&mut all_jobs, 7).await, [6, 7]);
    assert_eq!(read(&mut one_job, 7).await, [2, 4, 7]);
    assert_eq!(read(&mut new_events, 7).await, [4, 5, 6, 7]);
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_the_memory_loses_no_event() {
    let mut publisher = Publisher::new();
    let mut stream = publisher.stream(None, None);
    let large = "x".repeat(2000);
    for _ in 0..40 {
        publisher.commit(&["a#1", "b#1", "c#1"].repeat(20), &large);
    }
    let newest = publisher.next_id - 1;
    assert!(publisher.broadcast.lines_after(0, None).is_none(), "memory holds all of it: write more");
    let mut ids = stream.next().await.unwrap().lines().map(|(id, _)| id).collect::<Vec<_>>();
    publisher.commit(&["d#1"], "in between");
    ids.extend(read(&mut stream, newest + 1).await);
    assert_eq!(ids, (1..=newest + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cancelled_wait_loses_no_event() {
    let mut publisher = Publisher::new();
    for _ in 0..3 {
        publisher.commit(&["a#1"].repeat(100), &"x".repeat(1000));
    }
    let mut stream = publisher.stream(None, Some(0));
    let mut ids = Vec::new();
    while ids.last() != Some(&300) {
        // The wait is cancelled at its first pause, then repeated.
        tokio::select! {
            biased;
            chunk = stream.next() => ids.extend(chunk.unwrap().lines().map(|(id, _)| id)),
            () = tokio::task::yield_now() => {
                ids.extend(stream.next().await.unwrap().lines().map(|(id, _)| id));
            }
        }
    }
    assert_eq!(ids, (1..=300).collect::<Vec<_>>());
}
