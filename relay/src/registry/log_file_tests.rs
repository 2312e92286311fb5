//! Tests of the bounded log.

use super::*;

fn numbered_lines(from: u64, to: u64) -> Vec<u8> {
    (from..to).flat_map(|n| format!("{n:015}\n").into_bytes()).collect()
}

#[test]
fn every_marker_has_the_fixed_length_and_is_parsed_back() {
    for omitted_bytes in [0, 7, 12_726_414, u64::MAX] {
        let text = omission_marker(omitted_bytes);
        assert_eq!((text.len(), parse_marker(text.as_bytes())), (MARKER_LENGTH, Some(omitted_bytes)));
        assert!(text.starts_with(&format!("\n[… {omitted_bytes} bytes left out …]")), "{text}");
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
        let bytes = numbered_lines(chunk * 65536, (chunk + 1) * 65536);
        writer.append(offset, &bytes).unwrap();
        offset += bytes.len() as u64;
        assert_eq!(writer.offset(), offset);
        assert_eq!(LogWriter::open(&path).unwrap().offset(), offset);
    }
    let text = std::fs::read(&path).unwrap();
    assert!(text.len() as u64 <= HEAD_BYTES + 2 * MIN_TAIL_BYTES + MARKER_LENGTH as u64);
    assert!(
        text.starts_with(&numbered_lines(0, 10))
            && text.ends_with(&numbered_lines(32 * 65536 - 10, 32 * 65536))
    );
    let (_, tail) = LogReader::from_last_lines(&path, 2).unwrap();
    assert_eq!(tail, numbered_lines(32 * 65536 - 2, 32 * 65536));
}

#[test]
fn a_marker_that_a_worker_prints_changes_no_offset_however_it_is_split() {
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
        let mut output = Vec::new();
        while let Some(piece) = reader.read(&path).unwrap() {
            output.extend_from_slice(&piece);
        }
        assert_eq!(output.len() as u64, HEAD_BYTES + MARKER_LENGTH as u64 + 5);
        let flood = numbered_lines(0, 1 << 20);
        writer.append(writer.offset(), &flood).unwrap();
        let offset = HEAD_BYTES + MARKER_LENGTH as u64 + 5 + flood.len() as u64;
        assert_eq!((writer.offset(), LogWriter::open(&path).unwrap().offset()), (offset, offset));
    }
}

#[test]
fn a_marker_whose_end_is_skipped_on_a_full_disk_changes_no_offset() {
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
fn a_reader_gets_all_output_once_even_if_the_log_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::at_path(&dir.path().join("a.1.log"));
    let mut writer = LogWriter::open(&path).unwrap();
    let mut reader = LogReader::default();
    let mut output = Vec::new();
    let mut expected = Vec::new();
    for chunk in 0..32 {
        let bytes = numbered_lines(chunk * 65536, (chunk + 1) * 65536);
        writer.append(writer.offset(), &bytes).unwrap();
        expected.extend_from_slice(&bytes);
        while let Some(piece) = reader.read(&path).unwrap() {
            output.extend_from_slice(&piece);
        }
    }
    assert!(output == expected, "{} of {} bytes", output.len(), expected.len());
}

#[test]
fn output_that_is_skipped_leaves_a_note_and_keeps_offsets_valid() {
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
    let note = "\n[… 100 bytes left out: the relay's disk was full …]\n";
    assert_eq!(text, format!("before\n{note}after\n"));
}
