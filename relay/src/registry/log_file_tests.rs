//! The bounded log.

use super::*;

fn numbered(from: u64, to: u64) -> Vec<u8> {
    (from..to).flat_map(|n| format!("{n:015}\n").into_bytes()).collect()
}

#[test]
fn the_marker_has_the_length_that_offsets_are_computed_with() {
    for left_out in [0, 7, 12_726_414, u64::MAX] {
        let text = omission_marker(left_out);
        assert_eq!((text.len(), parse_marker(text.as_bytes())), (MARKER_LENGTH, Some(left_out)));
        assert!(text.starts_with(&format!("\n[… {left_out} bytes left out …]")), "{text}");
    }
    // The format of earlier versions.
    assert_eq!(parse_marker("\n[… 00000000000012726414 bytes left out …]\n".as_bytes()), Some(12_726_414));
}

#[test]
fn a_long_log_keeps_its_head_and_tail_and_knows_its_offset_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::at_path(&dir.path().join("a.1.log"));
    let mut writer = LogWriter::open(&path).unwrap();
    let mut offset = 0;
    for chunk in 0..32 {
        let bytes = numbered(chunk * 65536, (chunk + 1) * 65536);
        writer.append(offset, &bytes).unwrap();
        offset += bytes.len() as u64;
        assert_eq!(writer.offset(), offset);
        assert_eq!(LogWriter::open(&path).unwrap().offset(), offset);
    }
    let text = std::fs::read(&path).unwrap();
    assert!(text.len() as u64 <= HEAD_BYTES + 2 * MIN_TAIL_BYTES + MARKER_LENGTH as u64);
    assert!(text.starts_with(&numbered(0, 10)) && text.ends_with(&numbered(32 * 65536 - 10, 32 * 65536)));
    let (_, tail) = LogReader::from_last_lines(&path, 2).unwrap();
    assert_eq!(tail, numbered(32 * 65536 - 2, 32 * 65536));
}

#[test]
fn a_worker_that_prints_the_marker_moves_no_offset_in_whatever_pieces_it_comes() {
    let forged = omission_marker(9_000_000_000_000_000_000);
    for cut in [0, 1, 20, MARKER_LENGTH - 1, MARKER_LENGTH] {
        let dir = tempfile::tempdir().unwrap();
        let path = FileRef::at_path(&dir.path().join("a.1.log"));
        let mut writer = LogWriter::open(&path).unwrap();
        let head = vec![b'x'; usize::try_from(HEAD_BYTES).unwrap()];
        let (first, second) = forged.as_bytes().split_at(cut);
        for piece in [head.as_slice(), first, second, b"more\n"] {
            writer.append(writer.offset(), piece).unwrap();
            assert_eq!(LogWriter::open(&path).unwrap().offset(), writer.offset(), "cut at {cut}");
        }
        let mut reader = LogReader::default();
        let mut seen = Vec::new();
        while let Some(piece) = reader.read(&path).unwrap() {
            seen.extend_from_slice(&piece);
        }
        assert_eq!(seen.len() as u64, HEAD_BYTES + MARKER_LENGTH as u64 + 5);
        let flood = numbered(0, 1 << 20);
        writer.append(writer.offset(), &flood).unwrap();
        let offset = HEAD_BYTES + MARKER_LENGTH as u64 + 5 + flood.len() as u64;
        assert_eq!((writer.offset(), LogWriter::open(&path).unwrap().offset()), (offset, offset));
    }
}

#[test]
fn a_marker_that_a_full_disk_ends_moves_no_offset_either() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::at_path(&dir.path().join("a.1.log"));
    let mut writer = LogWriter::open(&path).unwrap();
    let mut text = vec![b'x'; usize::try_from(HEAD_BYTES).unwrap()];
    text.extend_from_slice(&omission_marker(7).as_bytes()[..MARKER_LENGTH - 1]);
    writer.append(0, &text).unwrap();
    writer.skip_output(writer.offset(), b"!").unwrap();
    assert_eq!(LogWriter::open(&path).unwrap().offset(), HEAD_BYTES + MARKER_LENGTH as u64);
}

#[test]
fn repeated_output_is_dropped_and_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::at_path(&dir.path().join("a.1.log"));
    let mut writer = LogWriter::open(&path).unwrap();
    writer.append(0, b"hello ").unwrap();
    writer.append(3, b"lo world").unwrap();
    writer.append(0, b"hello").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello world");
    assert_eq!(writer.append(12, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_follower_reads_everything_once_and_after_a_rewrite_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::at_path(&dir.path().join("a.1.log"));
    let mut writer = LogWriter::open(&path).unwrap();
    let mut reader = LogReader::default();
    let mut seen = Vec::new();
    let mut expected = Vec::new();
    for chunk in 0..32 {
        let bytes = numbered(chunk * 65536, (chunk + 1) * 65536);
        writer.append(writer.offset(), &bytes).unwrap();
        expected.extend_from_slice(&bytes);
        while let Some(piece) = reader.read(&path).unwrap() {
            seen.extend_from_slice(&piece);
        }
    }
    assert!(seen == expected, "{} of {} bytes", seen.len(), expected.len());
}

#[test]
fn output_without_room_leaves_a_gap_that_is_told_and_keeps_offsets_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::at_path(&dir.path().join("a.1.log"));
    let mut writer = LogWriter::open(&path).unwrap();
    writer.append(0, b"before\n").unwrap();
    writer.skip_output(7, &[b'x'; 60]).unwrap();
    writer.skip_output(67, &[b'x'; 40]).unwrap();
    assert_eq!((writer.offset(), LogWriter::open(&path).unwrap().offset()), (107, 107));
    writer.append(100, b"1234567after\n").unwrap();
    let text = std::fs::read(&path).unwrap();
    let text = String::from_utf8(text.into_iter().filter(|b| *b != 0).collect()).unwrap();
    let mark = "\n[… 100 bytes left out: the relay's disk was full …]\n";
    assert_eq!(text, format!("before\n{mark}after\n"));
}
