//! A run whose files can't be read while it goes on: what is good of them stays, what is lost is told, and its end is
//! told in any case. No other run is touched.

use std::io;
use std::time::Duration;

use super::run::{JobSpool, is_end};

/// Between two repairs of one run: each reads all that it has on the disk.
const REST: Duration = Duration::from_secs(2);

impl JobSpool {
    /// Whether it was repaired a moment ago: what can't be read now is not repaired again before some time has passed.
    pub(crate) fn rests(&self) -> bool {
        self.files().trouble.rests_until.is_some_and(|until| self.time.monotonic() < until)
    }

    /// Repairs files that gave `error`. Of the run, events up to `seq` and output up to `offset` were sent: what is lost of
    /// them the relay may hold, and what follows comes behind them.
    pub(crate) fn repair(&self, seq: u64, offset: u64, error: &io::Error) {
        tracing::error!("{}: the spool can't be read, it is repaired: {error}", self.run);
        let mut files = self.files();
        files.trouble.rests_until = Some(self.time.monotonic() + REST);
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
        self.tell_damage(&mut files, found);
        if over && !files.finished {
            for event in files.end.clone() {
                self.push(&mut files, &event);
            }
            files.finished = true;
            self.flush(&mut files);
            self.sync(&mut files);
        }
        self.go_on_after(&mut files, seq);
    }
}
