//! Events that are not in a file yet: those of one turn of the supervisor's loop, or all since the disk is full.
//! Pure.

use std::collections::VecDeque;

use common::event::Event;
use common::wire::{self, CodecError};

use super::record::HEADER_SIZE;

/// Encoded events with consecutive sequences.
#[derive(Debug, Default)]
pub(super) struct PendingEvents {
    /// Sequence of the first event.
    first: u64,
    events: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl PendingEvents {
    /// Creates an empty queue, whose first event will have this sequence.
    pub(super) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// Returns the sequence of the first event, or of the next one if there is none.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the sequence that follows the last one.
    pub(super) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(super) fn remove_last(&mut self) {
        if let Some(gone) = self.events.pop_back() {
            self.bytes -= HEADER_SIZE + gone.len();
        }
    }

    /// Returns the bytes that all events take in a file.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn push(&mut self, event: &Event) -> Result<(), CodecError> {
        // Most events fit, and are not copied while they grow.
        let mut bytes = Vec::with_capacity(160);
        wire::encode_onto(event, &mut bytes)?;
        self.push_bytes(bytes);
        Ok(())
    }

    /// Adds an encoded event.
    pub(super) fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.bytes += HEADER_SIZE + bytes.len();
        self.events.push_back(bytes);
    }

    /// Returns the encoded events from `first` on.
    pub(super) fn iter_from(&self, first: u64) -> impl Iterator<Item = &Vec<u8>> {
        let skip = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip)
    }

    /// Drops the events up to `seq`, which are not needed any more.
    pub(super) fn drop_until(&mut self, seq: u64) {
        while self.first <= seq
            && let Some(gone) = self.events.pop_front()
        {
            self.bytes -= HEADER_SIZE + gone.len();
            self.first += 1;
        }
    }

    /// Drops all events, which are written or have moved, and continues with this sequence.
    pub(super) fn restart(&mut self, first: u64) {
        self.first = first;
        self.events.clear();
        self.bytes = 0;
    }
}
