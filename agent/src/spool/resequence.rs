//! Change of the sequence numbers of a run's events, if the relay has more events or fewer than the files.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use common::event::Event;

use super::events::EventLog;
use super::recovery::RecoveredEvents;

impl EventLog {
    /// Repairs the files during the run: sets damaged ones aside. The pending events continue the valid part's
    /// sequence numbers. If the folder is missing, it is created again.
    ///
    /// # Errors
    /// The file system failed; nothing has changed.
    pub(super) fn repair(&mut self) -> io::Result<RecoveredEvents> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let old_next_seq = self.pending.first_seq();
        let (mut log, mut recovered) = Self::open(&self.dir, &self.run, self.limits)?;
        let lost = old_next_seq.saturating_sub(log.pending.first_seq());
        if lost > 0 && recovered.damage_report.is_none() {
            // At the end of a file, damage looks like a torn write, but no write is torn during the run.
            recovered.damage_report =
                Some(format!("the agent's spool was damaged: its last {lost} events are missing here"));
        }
        for event in self.pending.iter_from(0) {
            log.pending.push_bytes(event.clone());
        }
        log.acked_seq = self.acked_seq;
        *self = log;
        Ok(recovered)
    }

    /// Returns the number of events that are missing both here and in a relay that holds events up to `relay_seq`.
    pub(super) fn missing_count(&self, relay_seq: u64) -> u64 {
        (self.first_seq() - 1).saturating_sub(relay_seq)
    }

    /// Continues the run for a relay that has the run's events up to `relay_seq` and expects further ones.
    ///
    /// The relay can hold more events than the files: a power failure loses data that was not synced. Then the events
    /// that this process has added, and always the final events, get the sequence numbers after `relay_seq`. The relay
    /// can also lack events that were deleted here. Then `loss_warning`, an event that reports the loss, is inserted
    /// before the remaining events, and all of them get new sequence numbers.
    ///
    /// # Errors
    /// The files can't be read; nothing has changed.
    pub(super) fn continue_after(
        &mut self,
        relay_seq: u64,
        is_finished: bool,
        loss_warning: Option<&Event>,
    ) -> io::Result<()> {
        let (newest, inherited) = (self.last_seq(), self.inherited_seq);
        let first_added = inherited.filter(|inherited| relay_seq > *inherited).map(|inherited| inherited + 1);
        let first_moved = if loss_warning.is_some() {
            Some(self.first_seq())
        } else if is_finished && relay_seq >= newest {
            Some(first_added.unwrap_or(newest).min(newest))
        } else if relay_seq > newest {
            Some(first_added.unwrap_or(newest + 1))
        } else {
            first_added
        };
        if let Some(first_moved) = first_moved {
            let mut moved = Vec::new();
            let mut seq = first_moved.max(1);
            while seq <= newest {
                let batch = self.read(seq, usize::MAX, 64 * 1024)?;
                seq += batch.len() as u64;
                moved.extend(batch.events().map(<[u8]>::to_vec));
            }
            self.pending.restart_at(relay_seq + 1);
            self.is_jump_pending = true;
            if let Some(warning) = loss_warning {
                self.pending.push(warning).map_err(io::Error::other)?;
            }
            for event in moved {
                self.pending.push_bytes(event);
            }
        }
        self.inherited_seq = None;
        Ok(())
    }
}
