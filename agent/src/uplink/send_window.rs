//! Send window of one run on one connection. Pure.
//!
//! `acked_seq ≤ sent_seq ≤ last_seq`, and the same for the offsets of output. At the start, both the acknowledged and
//! the sent position are the end of the data that the relay has.

use std::collections::VecDeque;

use common::wire::OUTPUT_CHUNK;

/// Maximum number of events in flight: sixteen full frames. A relay that syncs its disk only a hundred times a second
/// can still accept 400,000 events a second.
const MAX_EVENTS: u64 = 4096;
/// Maximum number of bytes of events in flight. A typical event has a hundred bytes, but only a few of the largest
/// events fit.
const MAX_EVENT_BYTES: usize = 512 * 1024;
/// Maximum output in flight, in bytes: eight frames. Ten jobs then keep at most 5 MiB in the socket and the relay.
const MAX_OUTPUT: u64 = 512 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextData {
    /// Events from this sequence number on.
    Events {
        /// First sequence number.
        first_seq: u64,
        /// Last sequence number that may be sent now.
        last_seq: u64,
    },
    /// Output from this offset on.
    Output {
        /// Offset of the first byte.
        offset: u64,
        /// Maximum number of bytes to send.
        max_bytes: usize,
    },
}

/// Extent of the run in the spool.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunExtent {
    /// Sequence of the newest event.
    pub(super) last_seq: u64,
    pub(super) output_end: u64,
    /// True if the newest event is the run's last.
    pub(super) is_finished: bool,
}

/// The relay acknowledged data that was never sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it acknowledged {acked_position} where {sent_position} was sent")]
pub(super) struct InvalidAck {
    acked_position: u64,
    sent_position: u64,
}

/// Sent and acknowledged positions in the events and output of one run.
#[derive(Debug, Default)]
pub(super) struct SendWindow {
    sent_seq: u64,
    acked_seq: u64,
    /// Frames in flight, each with its last sequence number and its size in bytes.
    frames_in_flight: VecDeque<(u64, usize)>,
    bytes_in_flight: usize,
    sent_offset: u64,
    acked_offset: u64,
}

impl SendWindow {
    /// Creates a window that starts after the data that the relay holds.
    pub(super) fn resume(seq: u64, output_end: u64) -> Self {
        Self {
            sent_seq: seq,
            acked_seq: seq,
            sent_offset: output_end,
            acked_offset: output_end,
            ..Self::default()
        }
    }

    /// Returns the data to send next: events before output. The run's last event follows all of its output, because it
    /// closes the run.
    pub(super) fn next_data(&self, extent: RunExtent) -> Option<NextData> {
        let is_output_pending = self.sent_offset < extent.output_end;
        let last =
            extent.last_seq - u64::from(extent.is_finished && is_output_pending && extent.last_seq > 0);
        let last = last.min(self.acked_seq + MAX_EVENTS);
        if self.sent_seq < last && self.bytes_in_flight < MAX_EVENT_BYTES {
            return Some(NextData::Events { first_seq: self.sent_seq + 1, last_seq: last });
        }
        let remaining_window = (self.acked_offset + MAX_OUTPUT).saturating_sub(self.sent_offset);
        let max_bytes =
            remaining_window.min(extent.output_end.saturating_sub(self.sent_offset)).min(OUTPUT_CHUNK as u64);
        let max_bytes = usize::try_from(max_bytes).unwrap_or(OUTPUT_CHUNK);
        (max_bytes > 0).then_some(NextData::Output { offset: self.sent_offset, max_bytes })
    }

    /// Returns the last sequence number and the output offset that were sent.
    pub(super) fn sent_positions(&self) -> (u64, u64) {
        (self.sent_seq, self.sent_offset)
    }

    /// Records that one frame with events was sent.
    pub(super) fn record_sent_events(&mut self, count: usize, bytes: usize) {
        self.sent_seq += count as u64;
        self.frames_in_flight.push_back((self.sent_seq, bytes));
        self.bytes_in_flight += bytes;
    }

    /// Records that `count` bytes of output were sent.
    pub(super) fn record_sent_output(&mut self, count: usize) {
        self.sent_offset += count as u64;
    }

    /// Records that the relay has the events up to `seq`.
    pub(super) fn ack(&mut self, seq: u64) -> Result<(), InvalidAck> {
        if seq > self.sent_seq {
            return Err(InvalidAck { acked_position: seq, sent_position: self.sent_seq });
        }
        self.acked_seq = self.acked_seq.max(seq);
        while let Some((last, bytes)) = self.frames_in_flight.front()
            && *last <= self.acked_seq
        {
            self.bytes_in_flight -= bytes;
            self.frames_in_flight.pop_front();
        }
        Ok(())
    }

    /// Records that the relay has the output up to `offset`.
    pub(super) fn ack_output(&mut self, offset: u64) -> Result<(), InvalidAck> {
        if offset > self.sent_offset {
            return Err(InvalidAck { acked_position: offset, sent_position: self.sent_offset });
        }
        self.acked_offset = self.acked_offset.max(offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(last_seq: u64, output: u64, is_finished: bool) -> RunExtent {
        RunExtent { last_seq, output_end: output, is_finished }
    }

    #[test]
    fn events_precede_output_and_the_final_event_follows_it() {
        let mut window = SendWindow::default();
        assert_eq!(
            window.next_data(extent(3, 10, true)),
            Some(NextData::Events { first_seq: 1, last_seq: 2 })
        );
        window.record_sent_events(2, 100);
        assert_eq!(
            window.next_data(extent(3, 10, true)),
            Some(NextData::Output { offset: 0, max_bytes: 10 })
        );
        window.record_sent_output(10);
        assert_eq!(
            window.next_data(extent(3, 10, true)),
            Some(NextData::Events { first_seq: 3, last_seq: 3 })
        );
        window.record_sent_events(1, 100);
        assert_eq!(window.next_data(extent(3, 10, true)), None);
    }

    #[test]
    fn data_in_flight_is_bounded_and_acks_open_the_window() {
        let mut window = SendWindow::default();
        let much = extent(9000, 10_000_000, false);
        assert_eq!(window.next_data(much), Some(NextData::Events { first_seq: 1, last_seq: MAX_EVENTS }));
        window.record_sent_events(4096, 100);
        while let Some(NextData::Output { max_bytes, .. }) = window.next_data(much) {
            window.record_sent_output(max_bytes);
        }
        assert_eq!(window.sent_offset, MAX_OUTPUT);
        window.ack(1).unwrap();
        assert_eq!(window.next_data(much), Some(NextData::Events { first_seq: 4097, last_seq: 4097 }));
    }

    #[test]
    fn long_events_fill_the_window_by_their_bytes() {
        let mut window = SendWindow::default();
        let many = extent(100, 0, false);
        window.record_sent_events(2, MAX_EVENT_BYTES - 1);
        assert_eq!(window.next_data(many), Some(NextData::Events { first_seq: 3, last_seq: 100 }));
        window.record_sent_events(1, 300);
        assert_eq!(window.next_data(many), None);
        window.ack(1).unwrap();
        assert_eq!(window.next_data(many), None);
        window.ack(2).unwrap();
        assert_eq!(window.next_data(many), Some(NextData::Events { first_seq: 4, last_seq: 100 }));
    }

    #[test]
    fn a_new_connection_continues_after_the_data_of_the_relay() {
        let window = SendWindow::resume(7, 100);
        assert_eq!(
            window.next_data(extent(9, 100, true)),
            Some(NextData::Events { first_seq: 8, last_seq: 9 })
        );
        assert_eq!(SendWindow::resume(9, 100).next_data(extent(9, 100, true)), None);
        assert_eq!(SendWindow::resume(0, 500).next_data(extent(0, 100, false)), None);
    }

    #[test]
    fn an_ack_of_unsent_data_is_refused_and_an_old_ack_is_ignored() {
        let mut window = SendWindow::resume(7, 100);
        assert!(window.ack(8).is_err() && window.ack_output(101).is_err());
        assert_eq!((window.ack(3), window.acked_seq), (Ok(()), 7));
    }
}
