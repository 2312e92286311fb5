//! Record of a segment. Pure.
//!
//! ```text
//! length u32 LE │ CRC-32C u32 LE │ sequence number u64 LE │ event, encoded as on the wire
//! ```
//!
//! The checksum covers the salt of the segment and everything in the record but itself. So neither bytes inside an
//! event nor records of another file can be mistaken for a record of this file. A record of length 0 is a *jump*: the
//! relay holds all events up to the jump's sequence number, the records before the jump are obsolete, and the next
//! record has the next sequence number.

/// Size of the header before each event, in bytes.
pub(crate) const HEADER_SIZE: usize = 16;

/// Highest valid sequence number. No run reaches it, and sums of higher sequence numbers could overflow.
pub(crate) const MAX_SEQ: u64 = u64::MAX >> 2;

/// A complete and valid record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Sequence number of the event; for a jump, the sequence number up to which the relay holds all events.
    pub(crate) seq: u64,
    /// Encoded event; empty for a jump.
    pub(crate) payload: &'a [u8],
}

impl Record<'_> {
    /// Returns the size of the record in the file, in bytes.
    pub(crate) fn size(&self) -> usize {
        HEADER_SIZE + self.payload.len()
    }

    pub(crate) fn is_jump(&self) -> bool {
        self.payload.is_empty()
    }
}

fn checksum(salt: u32, len: [u8; 4], seq: [u8; 8], payload: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c_append(salt, &len), &seq);
    crc32c::crc32c_append(head, payload)
}

pub(crate) fn append(out: &mut Vec<u8>, salt: u32, seq: u64, payload: &[u8]) {
    let (len, seq) = (u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes(), seq.to_le_bytes());
    out.reserve(HEADER_SIZE + payload.len());
    out.extend_from_slice(&len);
    out.extend_from_slice(&checksum(salt, len, seq, payload).to_le_bytes());
    out.extend_from_slice(&seq);
    out.extend_from_slice(payload);
}

/// Returns the unverified head of a record: the length of its payload and its sequence number.
pub(crate) fn peek_header(bytes: &[u8]) -> Option<(usize, u64)> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let seq = rest.get(4..)?.first_chunk::<8>()?;
    Some((u32::from_le_bytes(*len) as usize, u64::from_le_bytes(*seq)))
}

/// Returns the record at the front of `bytes`, if it is complete and valid.
pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Record<'_>> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let payload = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let is_sound = checksum(salt, *len, *seq, payload) == u32::from_le_bytes(*sum);
    let seq = u64::from_le_bytes(*seq);
    (is_sound && seq <= MAX_SEQ).then_some(Record { seq, payload })
}

/// Finds the first valid record at any offset of `bytes`, after damage; returns its offset and the record.
/// `expected_seq` is the sequence number that the first record should have had.
pub(crate) fn find_record(bytes: &[u8], salt: u32, expected_seq: u64) -> Option<(usize, Record<'_>)> {
    // The number of bytes limits the sequence number of a record here. So most offsets are ruled out before a checksum
    // is computed.
    let max_seq = expected_seq.saturating_add((bytes.len() / HEADER_SIZE) as u64);
    (0..bytes.len()).find_map(|at| {
        let rest = &bytes[at..];
        let (len, seq) = peek_header(rest)?;
        // A tail of zeroes is common and long, and never contains a record.
        let is_zero = rest.first_chunk::<HEADER_SIZE>() == Some(&[0; HEADER_SIZE]);
        let is_plausible = (len == 0 && !is_zero) || (expected_seq..=max_seq).contains(&seq);
        let record = is_plausible.then(|| decode(rest, salt)).flatten()?;
        Some((at, record))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_only_with_its_salt() {
        let mut bytes = Vec::new();
        append(&mut bytes, 7, 12, b"hello");
        append(&mut bytes, 7, 13, b"");
        let first = decode(&bytes, 7).unwrap();
        assert_eq!(first, Record { seq: 12, payload: b"hello" });
        assert_eq!(peek_header(&bytes), Some((5, 12)));
        let jump = decode(&bytes[first.size()..], 7).unwrap();
        assert!(jump.is_jump() && jump.seq == 13);
        assert_eq!(decode(&bytes, 8), None);
    }

    #[test]
    fn zeroes_are_no_record_whatever_the_salt() {
        for salt in [0, 1, u32::MAX, 0x1234_5678] {
            assert_eq!(decode(&[0; 64], salt), None);
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_without_an_allocation() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 12]);
        assert_eq!(decode(&bytes, 0), None);
    }

    #[test]
    fn the_next_valid_record_after_damage_is_found() {
        let mut bytes = b"\xffgarbage".to_vec();
        append(&mut bytes, 3, 9, b"event");
        assert_eq!(find_record(&bytes, 3, 8), Some((8, Record { seq: 9, payload: b"event" })));
        assert_eq!(find_record(&bytes, 3, 10), None);
        assert_eq!(find_record(&bytes, 4, 8), None);
    }
}
