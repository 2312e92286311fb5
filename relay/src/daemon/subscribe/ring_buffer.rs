//! Buffer of the newest events. Subscribers that keep up are served from it, without access to files.
//!
//! ```text
//!   …, dropped events │ oldest_cursor │ lines, by id │ newest_id: everything up to here is published
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::JobId;

use crate::registry::chunk::Chunk;

/// Maximum size of the buffer, in bytes. This is 200 ms of output of the fastest agent (100,000 events of 200 bytes per
/// second), which is longer than the system delays a fast subscriber.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// One event in the buffer.
#[derive(Debug, Clone)]
pub(super) struct BufferedLine {
    /// Id of the event.
    pub(super) id: u64,
    /// Job of the event.
    pub(super) job: Arc<JobId>,
    /// Line in the log, without the line break.
    pub(super) text: Bytes,
}

impl BufferedLine {
    fn memory_cost(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

/// Buffer of the newest events.
#[derive(Debug, Default)]
pub(super) struct RingBuffer {
    lines: VecDeque<BufferedLine>,
    total_bytes: usize,
    /// Every published event above this id is in `lines`.
    oldest_cursor: u64,
    /// Every event up to this id is published.
    newest_id: u64,
}

impl RingBuffer {
    /// Adds the lines that were published up to `newest_id`, sorted by id.
    pub(super) fn extend(&mut self, lines: Vec<BufferedLine>, newest_id: u64) {
        self.total_bytes += lines.iter().map(BufferedLine::memory_cost).sum::<usize>();
        self.lines.extend(lines);
        while self.total_bytes > MAX_BYTES
            && let Some(oldest) = self.lines.pop_front()
        {
            self.total_bytes -= oldest.memory_cost();
            self.oldest_cursor = oldest.id;
        }
        self.newest_id = newest_id;
    }

    /// Drops all lines: subscribers must read events up to `newest_id` from the files.
    pub(super) fn clear(&mut self, newest_id: u64) {
        // The memory is freed too, because the next subscriber may come much later.
        *self = Self { oldest_cursor: newest_id, newest_id, ..Self::default() };
    }

    /// Returns the next lines after a cursor, of one job or of all; `None` if some of them were dropped.
    pub(super) fn lines_after(&self, cursor: u64, job: Option<&JobId>) -> Option<Chunk> {
        if cursor < self.oldest_cursor {
            return None;
        }
        let mut chunk = Chunk::new(cursor);
        let start = self.lines.partition_point(|line| line.id <= cursor);
        for line in self.lines.range(start..).filter(|line| job.is_none_or(|job| *line.job == *job)) {
            if chunk.is_full() {
                return Some(chunk);
            }
            chunk.push(line.id, &line.text);
        }
        chunk.cursor = self.newest_id.max(cursor);
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(job: &str, id: u64, len: usize) -> BufferedLine {
        BufferedLine { id, job: Arc::new(job.parse().unwrap()), text: vec![b'x'; len].into() }
    }

    fn ids(buffer: &RingBuffer, cursor: u64, job: Option<&str>) -> Option<(Vec<u64>, u64)> {
        let job = job.map(|job| job.parse().unwrap());
        let chunk = buffer.lines_after(cursor, job.as_ref())?;
        Some((chunk.lines().map(|(id, _)| id).collect(), chunk.cursor))
    }

    #[test]
    fn a_subscriber_that_keeps_up_gets_all_events_from_memory() {
        let mut buffer = RingBuffer::default();
        buffer.clear(10);
        buffer.extend(vec![line("a#1", 11, 1), line("b#1", 12, 1)], 12);
        buffer.extend(vec![line("a#1", 15, 1)], 17);
        assert_eq!(ids(&buffer, 9, None), None);
        assert_eq!(ids(&buffer, 10, None), Some((vec![11, 12, 15], 17)));
        assert_eq!(ids(&buffer, 11, None), Some((vec![12, 15], 17)));
        assert_eq!(ids(&buffer, 10, Some("b#1")), Some((vec![12], 17)));
        assert_eq!(ids(&buffer, 17, None), Some((vec![], 17)));
        buffer.clear(20);
        assert_eq!((ids(&buffer, 17, None), ids(&buffer, 20, None)), (None, Some((vec![], 20))));
    }

    #[test]
    fn the_buffer_and_each_chunk_are_bounded() {
        let mut buffer = RingBuffer::default();
        for id in 1..=100 {
            buffer.extend(vec![line("a#1", id, 100_000)], id);
        }
        assert!(
            buffer.total_bytes <= MAX_BYTES
                && buffer.lines.len() == MAX_BYTES / (100_000 + size_of::<BufferedLine>())
        );
        assert_eq!(ids(&buffer, 50, None), None);
        assert_eq!(ids(&buffer, 90, None), Some((vec![91], 91)));
        buffer.extend(vec![line("a#1", 101, MAX_BYTES + 1)], 101);
        assert_eq!((buffer.total_bytes, ids(&buffer, 100, None)), (0, None));
        assert_eq!(ids(&buffer, 101, None), Some((vec![], 101)));
    }
}
