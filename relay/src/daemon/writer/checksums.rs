//! Checksums of a job's newest events, which identify a repeated event by its content.

use std::collections::VecDeque;

/// Maximum number of checksums, which is the maximum number of unacknowledged events: only these are sent again.
const MAX_CHECKSUMS: usize = 1024;

/// Checksums of the newest events of one run.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    epoch: u32,
    /// Sequence number of the newest event.
    last_seq: u64,
    newest_sums: VecDeque<u32>,
}

impl Checksums {
    /// Adds the checksum of an event. Drops all earlier checksums if the event does not follow the last one.
    pub(super) fn push(&mut self, epoch: u32, seq: u64, sum: u32) {
        if epoch != self.epoch || seq != self.last_seq + 1 {
            self.newest_sums.clear();
        } else if self.newest_sums.len() == MAX_CHECKSUMS {
            self.newest_sums.pop_front();
        }
        (self.epoch, self.last_seq) = (epoch, seq);
        self.newest_sums.push_back(sum);
    }

    /// Returns the checksum of an event; `None` if that checksum is no longer kept.
    pub(super) fn get(&self, epoch: u32, seq: u64) -> Option<u32> {
        let distance = usize::try_from(self.last_seq.checked_sub(seq)?).ok()?;
        let index = self.newest_sums.len().checked_sub(distance + 1)?;
        (epoch == self.epoch).then(|| self.newest_sums[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_checksums_of_one_run_are_known() {
        let mut checksums = Checksums::default();
        for seq in 1..=2000_u32 {
            checksums.push(1, seq.into(), seq * 3);
        }
        assert_eq!((checksums.get(1, 2000), checksums.get(1, 977)), (Some(6000), Some(2931)));
        assert_eq!(
            (checksums.get(1, 976), checksums.get(1, 2001), checksums.get(2, 2000)),
            (None, None, None)
        );
        checksums.push(2, 1, 7);
        assert_eq!((checksums.get(2, 1), checksums.get(1, 1999)), (Some(7), None));
    }
}
