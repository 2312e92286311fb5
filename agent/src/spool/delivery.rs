//! Functions of a run for the uplink: they read data to send, record what the relay has acknowledged, and continue the
//! run where the relay's data ends.

use std::io;

#[cfg(any(test, feature = "internals"))]
use common::event::Event;
use common::event::EventBody;

use super::reader::EncodedEvents;
use super::run::{JobSpool, RunFiles};

impl JobSpool {
    /// Returns true if the run is over and the relay has all its data.
    pub(crate) fn is_delivered(&self) -> bool {
        let files = self.lock_files();
        files.is_finished
            && files.events.acked_seq() >= files.events.last_seq()
            && files.output.is_all_acked()
    }

    /// Returns events from `first_seq` on, bounded in number and size.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn read(&self, first_seq: u64, max_events: usize, max_bytes: usize) -> io::Result<Vec<Event>> {
        let batch = self.read_stored(first_seq, max_events, max_bytes)?;
        batch.events().map(|event| common::wire::decode(event).map_err(io::Error::other)).collect()
    }

    /// Returns the same events as `read`, encoded as on the wire.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub(crate) fn read_stored(
        &self,
        first_seq: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> io::Result<EncodedEvents> {
        self.lock_files().events.read(first_seq, max_events, max_bytes)
    }

    /// Reads a part of the run's log.
    pub(crate) fn read_output(&self, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        self.lock_files().output.read(offset, max_bytes)
    }

    /// Acknowledges every event up to `seq`.
    pub(crate) fn ack(&self, seq: u64) {
        self.lock_files().events.ack(seq);
    }

    /// Acknowledges the log up to `offset`.
    pub(crate) fn ack_output(&self, offset: u64) {
        self.lock_files().output.ack(offset, self.time.monotonic());
    }

    /// Continues the run for a relay that has the run's events up to `relay_seq` and expects further ones. New events,
    /// including the final ones, get the sequence numbers after `relay_seq`.
    pub(crate) fn continue_after(&self, relay_seq: u64) {
        let mut files = self.lock_files();
        self.resequence_after(&mut files, relay_seq);
        files.events.set_acked(relay_seq);
    }

    /// Continues the log at `offset`, where the relay's copy of it ends.
    pub(crate) fn continue_output_after(&self, offset: u64) {
        let continued = self.lock_files().output.continue_after(offset);
        if let Err(error) = continued {
            tracing::error!("{}: the log can't be continued at the relay's offset: {error}", self.run);
        }
    }

    pub(super) fn resequence_after(&self, files: &mut RunFiles, relay_seq: u64) {
        let missing = files.events.missing_count(relay_seq);
        let loss_warning = (missing > 0).then(|| {
            let message = format!(
                "{missing} events after event {relay_seq} of this run are lost: the agent has deleted them"
            );
            tracing::error!("{}: {message}", self.run);
            self.stamp_event(EventBody::Warning { message })
        });
        let is_finished = files.is_finished;
        if let Err(error) = files.events.continue_after(relay_seq, is_finished, loss_warning.as_ref()) {
            tracing::error!("{}: the spool can't be read: {error}", self.run);
        }
        if files.events.has_pending() {
            self.flush(files);
            self.sync(files);
        }
    }
}
