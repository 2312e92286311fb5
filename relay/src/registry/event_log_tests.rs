//! Tests of the readers of event logs, with damage of every kind.

use common::event::{Event, EventBody};
use common::event_line::Source;

use super::*;

fn line(seq: u64) -> Vec<u8> {
    let event =
        Event { at: jiff::Timestamp::UNIX_EPOCH, body: EventBody::Message { text: format!("number {seq}") } };
    let job = "a#1".parse().unwrap();
    EventLine { id: seq, job, epoch: 1, seq, source: Source::Agent, event: Some(event) }.to_bytes().unwrap()
}

fn log_of(bytes: &[u8]) -> LogContent {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    read_log(&FileRef::at_path(file.path())).unwrap()
}

#[test]
fn a_truncated_log_gives_exactly_its_complete_lines() {
    let lines: Vec<_> = (1..=5).map(line).collect();
    let whole = lines.concat();
    for len in 0..=whole.len() {
        let log = log_of(&whole[..len]);
        let mut valid_bytes = 0;
        let expected = lines.iter().take_while(|line| {
            (valid_bytes + line.len() <= len).then(|| valid_bytes += line.len()).is_some()
        });
        assert_eq!(log.lines.len(), expected.count(), "length {len}");
        assert_eq!((log.valid_bytes, log.torn_bytes), (valid_bytes as u64, (len - valid_bytes) as u64));
        assert!(log.bad_lines.is_empty());
    }
}

#[test]
fn damage_in_the_middle_is_listed_and_a_bad_tail_is_torn() {
    let mut bytes = [line(1), line(2), line(3)].concat();
    let middle = line(1).len() + 20;
    bytes[middle] ^= 1;
    bytes.extend_from_slice(&[0; 4096]);
    let log = log_of(&bytes);
    assert_eq!(log.lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((log.bad_lines.len(), log.bad_lines[0].0, log.torn_bytes), (1, 2, 4096));
}

/// Returns the sequence numbers of the new lines.
fn new_seqs(follower: &mut LogFollower, path: &std::path::Path) -> Vec<u64> {
    let mut seqs = Vec::new();
    follower.visit_lines(&FileRef::at_path(path), |_, line| seqs.push(line.seq)).unwrap();
    seqs
}

#[test]
fn a_follower_sees_each_whole_line_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut follower = LogFollower::new();
    let bytes = [line(1), line(2)].concat();
    std::fs::write(file.path(), &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(new_seqs(&mut follower, file.path()), [1]);
    std::fs::write(file.path(), &bytes).unwrap();
    assert_eq!(new_seqs(&mut follower, file.path()), [2]);
    assert_eq!(new_seqs(&mut follower, file.path()), [0; 0]);
}

#[test]
fn a_follower_misses_and_repeats_no_line_when_the_log_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut follower = LogFollower::starting_after(1);
    std::fs::write(&path, [line(1), line(2), b"damage\n".to_vec(), line(3)].concat()).unwrap();
    assert_eq!(new_seqs(&mut follower, &path), [2, 3]);
    let new = dir.path().join("new");
    std::fs::write(&new, [line(1), line(2), line(3), line(4)].concat()).unwrap();
    std::fs::rename(&new, &path).unwrap();
    assert_eq!(new_seqs(&mut follower, &path), [4]);
    let mut raw = Vec::new();
    LogFollower::starting_after(2)
        .visit_raw_lines(&FileRef::at_path(&path), |bytes, id| raw.push((bytes.to_vec(), id)))
        .unwrap();
    assert_eq!(raw, [(line(3), 3), (line(4), 4)]);
}

#[test]
fn a_line_that_is_too_long_is_one_bad_line() {
    let overlong_line = [vec![b'x'; 3 * MAX_LINE], b"\n".to_vec()].concat();
    let log = log_of(&[line(1), overlong_line, line(2)].concat());
    assert_eq!((log.lines.len(), log.bad_lines.len(), log.torn_bytes), (2, 1, 0));
}

#[test]
fn a_line_of_many_mib_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, line(1)).unwrap();
    std::fs::File::options().append(true).open(&path).unwrap().set_len(SMALL_FILE).unwrap();
    let path = FileRef::at_path(&path);
    let mut seqs = Vec::new();
    let reasons = [
        scan_log(&path, |_, line| seqs.push(line.seq)).unwrap_err(),
        LogFollower::new().visit_lines(&path, |_, _| {}).unwrap_err(),
        super::super::log_cursor::LogCursor::open_after(&path, 1).unwrap_err(),
    ];
    for error in reasons {
        assert_eq!(
            RefusedEntry::from_error(&error).map(|refused| refused.reason),
            Some(RefusalReason::OverlongLine),
            "{error}"
        );
    }
    assert_eq!(seqs, [1]);
}

#[test]
fn a_large_sparse_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, line(1)).unwrap();
    std::fs::File::options().append(true).open(&path).unwrap().set_len(SMALL_FILE + 1).unwrap();
    let error = read_log(&FileRef::at_path(&path)).unwrap_err();
    assert_eq!(
        RefusedEntry::from_error(&error).map(|refused| refused.reason),
        Some(RefusalReason::MostlyHoles),
        "{error}"
    );
    assert!(
        error.to_string().ends_with("is a sparse file with hardly any data and is not read: remove it"),
        "{error}"
    );
}
