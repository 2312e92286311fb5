//! The newest events, in memory for all subscribers that keep up.
//!
//! ```text
//!   …, forgotten events │ floor │ lines, by id │ top: everything up to here is published
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::JobId;

use crate::registry::chunk::Chunk;

/// Maximum size of the kept events, in bytes: 200 ms of the fastest agent (100,000 events a second of 200 bytes), which
/// is longer than the system may delay a program that keeps up.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Id of the event.
    pub(super) id: u64,
    /// Job of the event.
    pub(super) job: Arc<JobId>,
    /// Line in the log, without the line break.
    pub(super) text: Bytes,
}

impl Line {
    fn cost(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

/// Buffer of the newest events.
#[derive(Debug, Default)]
pub(super) struct RingBuffer {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Every published event above this id is in `lines`.
    floor: u64,
    /// Every event up to this id is published.
    top: u64,
}

impl RingBuffer {
    /// Adds the lines that were published up to `top`, sorted by id.
    pub(super) fn extend(&mut self, lines: Vec<Line>, top: u64) {
        self.bytes += lines.iter().map(Line::cost).sum::<usize>();
        self.lines.extend(lines);
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.cost();
            self.floor = oldest.id;
        }
        self.top = top;
    }

    /// Drops all lines: events published up to `top` are in the files only.
    pub(super) fn clear(&mut self, top: u64) {
        // Frees the buffer too: the next query may come much later.
        *self = Self { floor: top, top, ..Self::default() };
    }

    /// Returns the next lines after a cursor, of one job or of all; `None` if some of them were dropped.
    pub(super) fn after(&self, cursor: u64, job: Option<&JobId>) -> Option<Chunk> {
        if cursor < self.floor {
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
        chunk.cursor = self.top.max(cursor);
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(job: &str, id: u64, len: usize) -> Line {
        Line { id, job: Arc::new(job.parse().unwrap()), text: vec![b'x'; len].into() }
    }

    fn ids(buffer: &RingBuffer, cursor: u64, job: Option<&str>) -> Option<(Vec<u64>, u64)> {
        let job = job.map(|job| job.parse().unwrap());
        let chunk = buffer.after(cursor, job.as_ref())?;
        Some((chunk.lines().map(|(id, _)| id).collect(), chunk.cursor))
    }

    #[test]
    fn a_reader_that_keeps_up_gets_everything_from_memory() {
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
    fn what_is_kept_and_what_is_handed_out_at_once_are_bounded() {
        let mut buffer = RingBuffer::default();
        for id in 1..=100 {
            buffer.extend(vec![line("a#1", id, 100_000)], id);
        }
        assert!(buffer.bytes <= MAX_BYTES && buffer.lines.len() == MAX_BYTES / (100_000 + size_of::<Line>()));
        assert_eq!(ids(&buffer, 50, None), None);
        assert_eq!(ids(&buffer, 90, None), Some((vec![91], 91)));
        buffer.extend(vec![line("a#1", 101, MAX_BYTES + 1)], 101);
        assert_eq!((buffer.bytes, ids(&buffer, 100, None)), (0, None));
        assert_eq!(ids(&buffer, 101, None), Some((vec![], 101)));
    }
}
