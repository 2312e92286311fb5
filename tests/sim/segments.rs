//! Tests that read a segment of the agent's spool after it was cut at any byte, or after any single bit was flipped.

use common::event::{Event, EventBody};
use jiff::Timestamp;
use relay_tests::harness::figures::figure;
use worker_agent::internals::test_support::{
    Piece, SegmentContent, build_segment, event_bytes, scan_segment,
};

use crate::cases::{BitFlip, bit_flips, failing_cases};

/// Size of the segment, in bytes.
const SIZE: usize = 16 * 1024;

/// Creates a segment of exactly [`SIZE`] bytes; also returns the ends of its header and its records.
fn sample_segment() -> (Vec<u8>, Vec<usize>) {
    let event =
        |text: String| event_bytes(&Event { at: Timestamp::UNIX_EPOCH, body: EventBody::Message { text } });
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    let bytes_of = |payloads: &[Vec<u8>]| {
        let records: Vec<Piece> = (1..).zip(payloads).map(|(seq, event)| Piece::Record(seq, event)).collect();
        build_segment(1, 0x5eed, &records)
    };
    let mut ends = vec![bytes_of(&[]).len()];
    while ends.last().is_some_and(|end| *end < SIZE - 4500) {
        let n = payloads.len();
        payloads.push(event("x".repeat(1 + n * 997 % 1000)));
        ends.push(bytes_of(&payloads).len());
    }
    // The last record fills the remaining space: its head, its fixed fields and a length of three bytes.
    let left = SIZE - ends.last().copied().unwrap_or(0);
    let fixed = bytes_of(&[event("z".repeat(300))]).len() - ends[0] - 300;
    payloads.push(event("z".repeat(left - fixed)));
    let bytes = bytes_of(&payloads);
    ends.push(bytes.len());
    assert_eq!(bytes.len(), SIZE);
    (bytes, ends)
}

#[test]
fn s03_a_spooled_segment_cut_anywhere_gives_exactly_its_whole_records() {
    let (bytes, ends) = sample_segment();
    let wrong = failing_cases(
        SIZE + 1,
        || (),
        |(), length| {
            let found = scan_segment(&bytes[..length]);
            let whole = ends.partition_point(|end| *end <= length);
            let expected = whole.checked_sub(1).map(|last| {
                let (first, next, end) = (1, whole as u64, ends[last]);
                SegmentContent {
                    first_seq: first,
                    next_seq: next,
                    valid_end: end,
                    is_torn: end < length,
                    is_damaged: false,
                    salvaged_count: 0,
                }
            });
            if found == expected { Ok(()) } else { Err(format!("{found:?}, not {expected:?}")) }
        },
    );
    let cases = SIZE + 1;
    figure(&format!(
        "spooled segment of {SIZE} bytes truncated (fault S03): {cases} lengths, wrong {}",
        wrong.len()
    ));
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn s04_a_spooled_segment_with_any_single_bit_flipped_is_never_accepted_altered() {
    let (bytes, ends) = sample_segment();
    let cases = bit_flips(SIZE);
    let wrong = failing_cases(
        cases.len(),
        || bytes.clone(),
        |bytes, case| {
            let BitFlip { byte, mask } = cases[case];
            bytes[byte] ^= mask;
            let found = scan_segment(bytes);
            bytes[byte] ^= mask;
            // If the header is damaged, the whole segment is rejected; otherwise the records after the damaged one are
            // salvaged.
            let at = ends.partition_point(|end| *end <= byte);
            let expected = at.checked_sub(1).map(|last| {
                let (next, end, salvaged) = (at as u64, ends[last], ends.len() - 1 - at);
                SegmentContent {
                    first_seq: 1,
                    next_seq: next,
                    valid_end: end,
                    is_torn: salvaged == 0,
                    is_damaged: salvaged > 0,
                    salvaged_count: salvaged,
                }
            });
            if found == expected { Ok(()) } else { Err(format!("{found:?}, not {expected:?}")) }
        },
    );
    let cases = cases.len();
    figure(&format!(
        "bits of a spooled segment of {SIZE} bytes flipped (fault S04): {cases} bits, wrong {}",
        wrong.len()
    ));
    assert_eq!(wrong, Vec::<String>::new());
}
