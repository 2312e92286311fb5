//! Header of a segment. Its numbers are little-endian. Pure.
//!
//! ```text
//! magic 8 bytes │ first sequence number u64 │ epoch u32 │ salt u32 │ length u8, job │ CRC-32C u32 of all before
//! ```

use super::run_id::RunId;

/// Magic number of the format and its version.
const MAGIC: &[u8; 8] = b"relaysp1";
/// Offset of the length of the job id.
const JOB_LENGTH_OFFSET: usize = 24;

/// Header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Run that the events belong to.
    pub(crate) run: RunId,
    /// Sequence of the first event.
    pub(crate) first_seq: u64,
    /// Random number that is included in the checksums of the segment's records.
    pub(crate) salt: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let job = self.run.job.to_string();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.run.epoch.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        // A job id has at most 52 bytes.
        out.push(u8::try_from(job.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(job.as_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Returns the header at the front of a file and its length; `None` if it is incomplete or damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (fixed, rest) = bytes.split_at_checked(JOB_LENGTH_OFFSET)?;
        let (len, rest) = rest.split_first()?;
        let (job, rest) = rest.split_at_checked(usize::from(*len))?;
        let sum = u32::from_le_bytes(*rest.first_chunk()?);
        let end = JOB_LENGTH_OFFSET + 1 + job.len();
        if !fixed.starts_with(MAGIC) || crc32c::crc32c(&bytes[..end]) != sum {
            return None;
        }
        let first = u64::from_le_bytes(*fixed.get(8..)?.first_chunk()?);
        let epoch = u32::from_le_bytes(*fixed.get(16..)?.first_chunk()?);
        let salt = u32::from_le_bytes(*fixed.get(20..)?.first_chunk()?);
        let job = std::str::from_utf8(job).ok()?.parse().ok()?;
        // Sequences count from 1.
        let first = (1..=super::record::MAX_SEQ).contains(&first).then_some(first)?;
        Some((Self { run: RunId { job, epoch }, first_seq: first, salt }, end + 4))
    }

    /// Returns true if the header was not completely written: the file is too short, or all zeroes.
    pub(crate) fn is_torn(bytes: &[u8], run: &RunId) -> bool {
        bytes.len() < JOB_LENGTH_OFFSET + 1 + run.job.to_string().len() + 4
            || bytes.iter().all(|byte| *byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        let run = RunId { job: "abe-smoke#12".parse().unwrap(), epoch: 3 };
        SegmentHeader { run, first_seq: 77, salt: 0xfeed }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut bytes = header().encode();
        let len = bytes.len();
        bytes.extend_from_slice(b"records");
        assert_eq!(SegmentHeader::decode(&bytes), Some((header(), len)));
        assert!(!SegmentHeader::is_torn(&bytes, &header().run));
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_of_a_header_is_accepted() {
        let complete = header().encode();
        for len in 0..complete.len() {
            assert_eq!(SegmentHeader::decode(&complete[..len]), None, "length {len}");
            assert!(SegmentHeader::is_torn(&complete[..len], &header().run), "length {len}");
        }
        for bit in 0..complete.len() * 8 {
            let mut bad = complete.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), None, "bit {bit}");
        }
        assert!(SegmentHeader::is_torn(&[0; 4096], &header().run));
    }
}
