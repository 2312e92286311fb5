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
        self.lock_files().disk_state.repair_after.is_some_and(|time| self.time.monotonic() < time)
    }

    /// Repairs the files of the run after reading them failed with `error`. The relay may hold the events up to
    /// `sent_seq` and the output up to `sent_offset`, which were sent. So new events and output continue after these.
    pub(crate) fn repair(&self, sent_seq: u64, sent_offset: u64, error: &io::Error) {
        tracing::error!("{}: the spool can't be read, it is repaired: {error}", self.run);
        let mut files = self.lock_files();
        files.disk_state.repair_after = Some(self.time.monotonic() + REPAIR_PAUSE);
        let lost = files.output.repair(sent_offset);
        if lost > 0 {
            tracing::error!("{}: {lost} bytes of its output are lost", self.run);
        }
        let recovered = match files.events.repair() {
            Ok(recovered) => recovered,
            Err(error) => {
                tracing::error!("{}: the spool can't be repaired: {error}", self.run);
                return;
            }
        };
        let was_finished =
            std::mem::replace(&mut files.is_finished, is_final_event(recovered.last_event.as_ref()));
        self.report_damage(&mut files, recovered);
        if was_finished && !files.is_finished {
            for event in files.final_events.clone() {
                self.push_event(&mut files, &event);
            }
            files.is_finished = true;
            self.flush(&mut files);
            self.sync(&mut files);
        }
        self.resequence_after(&mut files, sent_seq);
    }
}
