//! Events that are not in a file yet: those of one iteration of the supervisor's loop, or all events since the disk
//! became full. Pure.

use std::collections::VecDeque;

use common::event::Event;
use common::wire::{self, CodecError};

use super::record::HEADER_SIZE;

/// Encoded events with consecutive sequence numbers.
#[derive(Debug, Default)]
pub(super) struct PendingEvents {
    /// Sequence of the first event.
    first_seq: u64,
    events: VecDeque<Vec<u8>>,
    total_bytes: usize,
}

impl PendingEvents {
    /// Creates an empty queue, whose first event will have the sequence number `first_seq`.
    pub(super) fn new(first_seq: u64) -> Self {
        Self { first_seq, ..Self::default() }
    }

    /// Returns the sequence number of the first event, or of the next one if there is none.
    pub(super) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Returns the sequence number after that of the last event.
    pub(super) fn next_seq(&self) -> u64 {
        self.first_seq + self.events.len() as u64
    }

    pub(super) fn remove_last(&mut self) {
        if let Some(removed) = self.events.pop_back() {
            self.total_bytes -= HEADER_SIZE + removed.len();
        }
    }

    /// Returns the size that all these events will take in a file.
    pub(super) fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn push(&mut self, event: &Event) -> Result<(), CodecError> {
        // Most events fit into this capacity, so that the buffer does not have to grow.
        let mut bytes = Vec::with_capacity(160);
        wire::encode_append(event, &mut bytes)?;
        self.push_bytes(bytes);
        Ok(())
    }

    /// Adds an encoded event.
    pub(super) fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.total_bytes += HEADER_SIZE + bytes.len();
        self.events.push_back(bytes);
    }

    /// Returns the encoded events from `first_seq` on.
    pub(super) fn iter_from(&self, first_seq: u64) -> impl Iterator<Item = &Vec<u8>> {
        let skip = usize::try_from(first_seq.saturating_sub(self.first_seq)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip)
    }

    /// Drops the events up to `seq`.
    pub(super) fn drop_up_to(&mut self, seq: u64) {
        while self.first_seq <= seq
            && let Some(removed) = self.events.pop_front()
        {
            self.total_bytes -= HEADER_SIZE + removed.len();
            self.first_seq += 1;
        }
    }

    /// Drops all events, after they were written or moved, and continues with the sequence number `first_seq`.
    pub(super) fn restart_at(&mut self, first_seq: u64) {
        self.first_seq = first_seq;
        self.events.clear();
        self.total_bytes = 0;
    }
}
