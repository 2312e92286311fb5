//! The uplink's side of a run: what is sent, what the relay has acknowledged, and where it goes on.

use std::io;

#[cfg(any(test, feature = "internals"))]
use common::event::Event;
use common::event::EventBody;

use super::reader::Batch;
use super::run::{Files, JobSpool};

impl JobSpool {
    /// Returns true if the run is over and the relay has all of it.
    pub(crate) fn is_delivered(&self) -> bool {
        let files = self.files();
        files.finished && files.events.acked() >= files.events.last_seq() && files.output.all_acked()
    }

    /// Returns events from `first` on, bounded in number and size.
    ///
    /// # Errors
    /// The file can't be read, or holds other bytes than were written.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn read(&self, first: u64, most: usize, bytes: usize) -> io::Result<Vec<Event>> {
        let batch = self.read_stored(first, most, bytes)?;
        batch.events().map(|event| common::wire::decode(event).map_err(io::Error::other)).collect()
    }

    /// Returns the same events, encoded as on the wire.
    ///
    /// # Errors
    /// The file can't be read, or holds other bytes than were written.
    pub(crate) fn read_stored(&self, first: u64, most: usize, bytes: usize) -> io::Result<Batch> {
        self.files().events.read(first, most, bytes)
    }

    /// Reads a piece of the log.
    pub(crate) fn read_output(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.files().output.read(offset, most)
    }

    /// Acknowledges every event up to `seq`.
    pub(crate) fn ack(&self, seq: u64) {
        self.files().events.ack(seq);
    }

    /// Acknowledges the log up to `offset`.
    pub(crate) fn ack_output(&self, offset: u64) {
        self.files().output.ack(offset, self.time.monotonic());
    }

    /// Continues the run for a relay that expects more of it and holds `durable` events: new events get sequences after
    /// those, and the run gets its end.
    pub(crate) fn continue_after(&self, durable: u64) {
        let mut files = self.files();
        self.resequence_after(&mut files, durable);
        files.events.set_acked(durable);
    }

    /// Continues the log at `offset`: the relay holds the log up to there, whatever it has acknowledged before.
    pub(crate) fn continue_output_after(&self, offset: u64) {
        let continued = self.files().output.continue_after(offset);
        if let Err(error) = continued {
            tracing::error!("{}: the log can't go on where the relay is: {error}", self.run);
        }
    }

    pub(super) fn resequence_after(&self, files: &mut Files, durable: u64) {
        let missing = files.events.missing(durable);
        let lost = (missing > 0).then(|| {
            let message = format!(
                "{missing} events after event {durable} of this run are lost: the agent has deleted them"
            );
            tracing::error!("{}: {message}", self.run);
            self.stamped(EventBody::Warning { message })
        });
        let finished = files.finished;
        if let Err(error) = files.events.continue_after(durable, finished, lost.as_ref()) {
            tracing::error!("{}: the spool can't be read: {error}", self.run);
        }
        if files.events.has_pending() {
            self.flush(files);
            self.sync(files);
        }
    }
}
