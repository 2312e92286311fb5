//! Repair of a run whose files can't be read while it goes on: the good parts stay, the loss is reported, and the end
//! is reported in any case. No other run is touched.

use std::io;
use std::time::Duration;

use super::run::{JobSpool, is_end};

/// Shortest time between two repairs of one run: each reads all of its files.
const REPAIR_PAUSE: Duration = Duration::from_secs(2);

impl JobSpool {
    /// Returns true if the run was repaired a moment ago: files that can't be read now are not repaired again until
    /// some time has passed.
    pub(crate) fn was_just_repaired(&self) -> bool {
        self.files().disk.repair_after.is_some_and(|until| self.time.monotonic() < until)
    }

    /// Repairs files that gave `error`. Events up to `seq` and output up to `offset` of the run were sent. The relay
    /// may hold what is lost here, so new events and output continue after `seq` and `offset`.
    pub(crate) fn repair(&self, seq: u64, offset: u64, error: &io::Error) {
        tracing::error!("{}: the spool can't be read, it is repaired: {error}", self.run);
        let mut files = self.files();
        files.disk.repair_after = Some(self.time.monotonic() + REPAIR_PAUSE);
        let lost = files.output.repair(offset);
        if lost > 0 {
            tracing::error!("{}: {lost} bytes of its output are lost", self.run);
        }
        let found = match files.events.repair() {
            Ok(found) => found,
            Err(error) => {
                tracing::error!("{}: the spool can't be repaired: {error}", self.run);
                return;
            }
        };
        let over = std::mem::replace(&mut files.finished, is_end(found.last.as_ref()));
        self.report_damage(&mut files, found);
        if over && !files.finished {
            for event in files.end.clone() {
                self.push(&mut files, &event);
            }
            files.finished = true;
            self.flush(&mut files);
            self.sync(&mut files);
        }
        self.resequence_after(&mut files, seq);
    }
}
