//! The bounded log.

use super::*;

fn numbered(from: u64, to: u64) -> Vec<u8> {
    (from..to).flat_map(|n| format!("{n:015}\n").into_bytes()).collect()
}

#[test]
fn the_marker_has_the_length_that_offsets_are_computed_with() {
    assert_eq!(marker(u64::MAX).len(), MARKER);
}

#[test]
fn a_long_log_keeps_its_head_and_tail_and_knows_its_offset_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::given(&dir.path().join("a.1.log"));
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
    assert!(text.len() as u64 <= HEAD + 2 * TAIL + MARKER as u64);
    assert!(text.starts_with(&numbered(0, 10)) && text.ends_with(&numbered(32 * 65536 - 10, 32 * 65536)));
    let (_, tail) = LogReader::tail(&path, 2).unwrap();
    assert_eq!(tail, numbered(32 * 65536 - 2, 32 * 65536));
}

#[test]
fn repeated_output_is_dropped_and_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = FileRef::given(&dir.path().join("a.1.log"));
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
    let path = FileRef::given(&dir.path().join("a.1.log"));
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
    let path = FileRef::given(&dir.path().join("a.1.log"));
    let mut writer = LogWriter::open(&path).unwrap();
    writer.append(0, b"before\n").unwrap();
    writer.leave_out(7, &[b'x'; 60]).unwrap();
    writer.leave_out(67, &[b'x'; 40]).unwrap();
    assert_eq!((writer.offset(), LogWriter::open(&path).unwrap().offset()), (107, 107));
    writer.append(100, b"1234567after\n").unwrap();
    let text = std::fs::read(&path).unwrap();
    let text = String::from_utf8(text.into_iter().filter(|b| *b != 0).collect()).unwrap();
    let mark = "\n[… 100 bytes left out: the relay's disk was full …]\n";
    assert_eq!(text, format!("before\n{mark}after\n"));
}
