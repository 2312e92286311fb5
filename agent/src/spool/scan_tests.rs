use super::*;
use crate::spool::run_id::RunId;

const SALT: u32 = 0x5a17;

fn header() -> SegmentHeader {
    SegmentHeader { run: RunId { job: "demo#1".parse().unwrap(), epoch: 1 }, first_seq: 5, salt: SALT }
}

/// Returns a segment with these payloads, the offset of each of its records, and that of its end.
fn segment(payloads: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().encode();
    let mut begins = Vec::new();
    for (seq, payload) in (5..).zip(payloads) {
        begins.push(bytes.len());
        record::append(&mut bytes, SALT, seq, payload);
    }
    begins.push(bytes.len());
    (bytes, begins)
}

fn scan(bytes: &[u8]) -> SegmentScan {
    let (header, begin) = SegmentHeader::decode(bytes).unwrap();
    scan_segment(bytes, &header, begin)
}

#[test]
fn s03_every_truncation_recovers_exactly_the_complete_records() {
    let (bytes, begins) = segment(&[b"one", b"three and more", b"x"]);
    for len in begins[0]..=bytes.len() {
        let found = scan(&bytes[..len]);
        let complete = begins.iter().filter(|begin| **begin <= len).count() - 1;
        let rest = if begins.contains(&len) { TrailingBytes::None } else { TrailingBytes::Torn };
        assert_eq!(
            (found.next_seq, found.valid_end, found.trailing_bytes),
            (5 + complete as u64, begins[complete], rest),
            "length {len}"
        );
    }
}

#[test]
fn s04_every_flipped_bit_is_found_and_changes_no_record() {
    let (bytes, begins) = segment(&[b"one", b"two two", b"three"]);
    for bit in begins[0] * 8..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let found = scan(&bad);
        let hit = begins.iter().filter(|begin| **begin <= bit / 8).count() - 1;
        let rest = if hit == 2 { TrailingBytes::Torn } else { TrailingBytes::Damaged };
        assert_eq!(
            (found.next_seq, found.valid_end, found.trailing_bytes),
            (5 + hit as u64, begins[hit], rest),
            "bit {bit}"
        );
    }
}

#[test]
fn s05_zeroes_and_junk_after_the_end_are_a_torn_write() {
    let (bytes, begins) = segment(&[b"one", b"two"]);
    for tail in
        [vec![0; 4096], vec![0; 1024 * 1024], vec![0xff; 300], bytes[begins[0]..begins[0] + 9].to_vec()]
    {
        let found = scan(&[bytes.as_slice(), &tail].concat());
        assert_eq!(
            (found.next_seq, found.valid_end, found.trailing_bytes),
            (7, begins[2], TrailingBytes::Torn),
            "{} bytes",
            tail.len()
        );
    }
}

#[test]
fn a_missing_or_repeated_record_is_damage_and_bytes_in_an_event_are_no_record() {
    let (bytes, begins) = segment(&[b"one", b"two", b"three"]);
    let cut_out = [&bytes[..begins[1]], &bytes[begins[2]..]].concat();
    assert_eq!((scan(&cut_out).next_seq, scan(&cut_out).trailing_bytes), (6, TrailingBytes::Damaged));
    let mut forged = Vec::new();
    record::append(&mut forged, 0, 6, b"forged");
    let (bytes, begins) = segment(&[b"one", &forged]);
    let found = scan(&bytes[..begins[2] - 1]);
    assert_eq!((found.next_seq, found.trailing_bytes), (6, TrailingBytes::Torn));
}

#[test]
fn records_before_a_jump_are_obsolete_even_if_they_are_damaged() {
    let (mut bytes, begins) = segment(&[b"one", b"two"]);
    record::append(&mut bytes, SALT, 50, b"");
    record::append(&mut bytes, SALT, 51, b"end");
    let complete = scan(&bytes);
    assert_eq!(
        (complete.first_seq, complete.next_seq, complete.has_jump, complete.trailing_bytes),
        (51, 52, true, TrailingBytes::None)
    );
    assert_eq!(complete.first_record_offset, begins[2] + record::HEADER_SIZE);
    bytes[begins[0] + 20] ^= 1;
    assert_eq!(scan(&bytes), complete);
}

#[test]
fn every_valid_record_after_damage_is_salvaged() {
    let (mut bytes, begins) = segment(&[b"one", b"two", b"three", b"four"]);
    bytes[begins[1] + 1] ^= 4;
    assert_eq!(salvage_payloads(&bytes, begins[1], SALT, 5), [b"three".as_slice(), b"four"]);
}
