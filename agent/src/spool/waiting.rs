//! Events that are not in a file yet: those of one turn of the supervisor's loop, or all since the disk is full. Pure.

use std::collections::VecDeque;

use common::event::Event;
use common::wire::{self, CodecError};

use super::record::HEAD;

/// Events as the wire carries them, dense in sequence.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Sequence of the first.
    first: u64,
    events: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Waiting {
    /// Nothing yet; the first one will have this sequence.
    pub(super) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// Sequence of the first one, and of the next one where there is none.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The sequence that follows the last one.
    pub(super) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Takes the last one back.
    pub(super) fn pop(&mut self) {
        if let Some(gone) = self.events.pop_back() {
            self.bytes -= HEAD + gone.len();
        }
    }

    /// Bytes that all of them take in a file.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds an event.
    ///
    /// # Errors
    /// It has no bytes.
    pub(super) fn push(&mut self, event: &Event) -> Result<(), CodecError> {
        // Most events fit, and are not copied while they grow.
        let mut bytes = Vec::with_capacity(160);
        wire::encode_onto(event, &mut bytes)?;
        self.push_bytes(bytes);
        Ok(())
    }

    /// Adds the bytes of an event.
    pub(super) fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.bytes += HEAD + bytes.len();
        self.events.push_back(bytes);
    }

    /// The bytes of events from `first` on.
    pub(super) fn from(&self, first: u64) -> impl Iterator<Item = &Vec<u8>> {
        let skip = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip)
    }

    /// Those up to `seq` are not needed any more.
    pub(super) fn forget(&mut self, seq: u64) {
        while self.first <= seq
            && let Some(gone) = self.events.pop_front()
        {
            self.bytes -= HEAD + gone.len();
            self.first += 1;
        }
    }

    /// All are written, or stand elsewhere by now: goes on with this sequence.
    pub(super) fn restart(&mut self, first: u64) {
        self.first = first;
        self.events.clear();
        self.bytes = 0;
    }
}
