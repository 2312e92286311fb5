//! New sequences for a run's events if the relay holds more events or fewer than the files.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use common::event::Event;

use super::events::EventLog;
use super::recovery::RecoveredEvents;

impl EventLog {
    /// Sets damaged files aside during the run. The pending events continue the sequence of the valid part. If the
    /// folder is missing, it is created again.
    ///
    /// # Errors
    /// The file system failed; nothing has changed.
    pub(super) fn repair(&mut self) -> io::Result<RecoveredEvents> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let before = self.pending.first_seq();
        let (mut log, mut found) = Self::open(&self.dir, &self.run, self.limits)?;
        let lost = before.saturating_sub(log.pending.first_seq());
        if lost > 0 && found.damage_report.is_none() {
            // At the end of a file, damage looks like a torn write, but no write is torn during the run.
            found.damage_report =
                Some(format!("the agent's spool was damaged: its last {lost} events are missing here"));
        }
        for event in self.pending.iter_from(0) {
            log.pending.push_bytes(event.clone());
        }
        log.acked_seq = self.acked_seq;
        *self = log;
        Ok(found)
    }

    /// Returns the number of events that are missing both here and in a relay that holds events up to `relay_seq`.
    pub(super) fn missing_count(&self, relay_seq: u64) -> u64 {
        (self.first_seq() - 1).saturating_sub(relay_seq)
    }

    /// Continues the run for a relay that holds its events up to `relay_seq` and expects further ones.
    ///
    /// The relay can hold more events than the files: a power failure loses data that was not synced. Then the events
    /// that this process has added, and always the final events, get the sequences after `relay_seq`. The relay can
    /// also lack events that were deleted here. Then `lost_event` is inserted before the remaining events, and all of
    /// them get new sequences.
    ///
    /// # Errors
    /// The files can't be read; nothing has changed.
    pub(super) fn continue_after(
        &mut self,
        relay_seq: u64,
        finished: bool,
        lost_event: Option<&Event>,
    ) -> io::Result<()> {
        let (newest, inherited) = (self.last_seq(), self.inherited_seq);
        let added = inherited.filter(|inherited| relay_seq > *inherited).map(|inherited| inherited + 1);
        let from = if lost_event.is_some() {
            Some(self.first_seq())
        } else if finished && relay_seq >= newest {
            Some(added.unwrap_or(newest).min(newest))
        } else if relay_seq > newest {
            Some(added.unwrap_or(newest + 1))
        } else {
            added
        };
        if let Some(from) = from {
            let mut moved = Vec::new();
            let mut seq = from.max(1);
            while seq <= newest {
                let batch = self.read(seq, usize::MAX, 64 * 1024)?;
                seq += batch.len() as u64;
                moved.extend(batch.events().map(<[u8]>::to_vec));
            }
            self.pending.restart_at(relay_seq + 1);
            self.jump_pending = true;
            if let Some(lost) = lost_event {
                self.pending.push(lost).map_err(io::Error::other)?;
            }
            for event in moved {
                self.pending.push_bytes(event);
            }
        }
        self.inherited_seq = None;
        Ok(())
    }
}
