//! Events that need other sequences, because the relay holds more of a run than its files, or less.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use common::event::Event;

use super::events::EventLog;
use super::recovery::Recovered;

impl EventLog {
    /// Sets aside what is damaged in the files while the run goes on. The pending events follow the good part. A
    /// folder that is gone is created again.
    ///
    /// # Errors
    /// The file system failed; nothing has changed.
    pub(super) fn repair(&mut self) -> io::Result<Recovered> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let before = self.pending.first();
        let (mut log, mut found) = Self::open(&self.dir, &self.run, self.limits)?;
        let lost = before.saturating_sub(log.pending.first());
        if lost > 0 && found.damage.is_none() {
            // At the very end damage looks like a torn write, but this was none.
            found.damage =
                Some(format!("the agent's spool was damaged: its last {lost} events are missing here"));
        }
        for event in self.pending.iter_from(0) {
            log.pending.push_bytes(event.clone());
        }
        log.acked = self.acked;
        *self = log;
        Ok(found)
    }

    /// Returns the number of events that are neither here nor with a relay that holds `durable` of them.
    pub(super) fn missing(&self, durable: u64) -> u64 {
        (self.first() - 1).saturating_sub(durable)
    }

    /// Continues the run for a relay that holds `durable` events of it and expects more.
    ///
    /// The relay can hold more than the file, because a machine that lost power lost what was not on its disk. Then
    /// the events that this process has added since, and the end of the run in any case, get the sequences after
    /// `durable`. The relay can also hold less than was deleted here; then `lost` is put before the remaining events,
    /// and all of them move up.
    ///
    /// # Errors
    /// The files can't be read; nothing has changed.
    pub(super) fn continue_after(
        &mut self,
        durable: u64,
        finished: bool,
        lost: Option<&Event>,
    ) -> io::Result<()> {
        let (newest, inherited) = (self.last_seq(), self.inherited);
        let added = inherited.filter(|inherited| durable > *inherited).map(|inherited| inherited + 1);
        let from = if lost.is_some() {
            Some(self.first())
        } else if finished && durable >= newest {
            Some(added.unwrap_or(newest).min(newest))
        } else if durable > newest {
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
            self.pending.restart(durable + 1);
            self.jump = true;
            if let Some(lost) = lost {
                self.pending.push(lost).map_err(io::Error::other)?;
            }
            for event in moved {
                self.pending.push_bytes(event);
            }
        }
        self.inherited = None;
        Ok(())
    }
}
