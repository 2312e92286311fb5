//! Repair of an active run whose files can't be read. The valid parts are kept, the loss is reported, and the run's end
//! is reported in any case. Other runs are not affected.

use std::io;
use std::time::Duration;

use super::run::{JobSpool, is_final_event};

/// Minimum time between two repairs of one run. Each repair reads all files of the run.
const REPAIR_PAUSE: Duration = Duration::from_secs(2);

impl JobSpool {
    /// Returns true if the run was repaired a moment ago, so that the next repair has to wait.
    pub(crate) fn was_repaired_recently(&self) -> bool {
        self.lock_files().disk_state.repair_after.is_some_and(|until| self.time.monotonic() < until)
    }

    /// Repairs the files of the run after reading them failed with `error`. The relay may hold the events up to
    /// `sent_seq` and the output up to `sent_offset`, which were sent, so new events and output continue after these.
    pub(crate) fn repair(&self, sent_seq: u64, sent_offset: u64, error: &io::Error) {
        tracing::error!("{}: the spool can't be read, it is repaired: {error}", self.run);
        let mut files = self.lock_files();
        files.disk_state.repair_after = Some(self.time.monotonic() + REPAIR_PAUSE);
        let lost = files.output.repair(sent_offset);
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
        let over = std::mem::replace(&mut files.finished, is_final_event(found.last_event.as_ref()));
        self.report_damage(&mut files, found);
        if over && !files.finished {
            for event in files.final_events.clone() {
                self.push_event(&mut files, &event);
            }
            files.finished = true;
            self.flush(&mut files);
            self.sync(&mut files);
        }
        self.resequence_after(&mut files, sent_seq);
    }
}
