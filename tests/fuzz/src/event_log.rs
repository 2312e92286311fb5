//! An event log: every byte of it belongs to a good line, to reported damage or to a torn tail; good lines are written
//! back unchanged.

use common::event_line::EventLine;
use relay::internals::read_log;

use super::folder;

/// Panics if a byte of a log is unaccounted for.
pub fn check(bytes: &[u8]) {
    let path = folder().join("log");
    std::fs::write(&path, bytes).expect("a file");
    let log = read_log(&path).expect("a file that is there");
    assert_eq!(log.valid_bytes + log.torn_bytes, bytes.len() as u64);
    for line in log.lines.iter().filter(|line| line.event.is_some()) {
        let raw = line.to_bytes().expect("a line that was read can be written");
        assert_eq!(&EventLine::parse(&raw).expect("and read again"), line);
    }
    // After the tail is cut, nothing is torn any more, and the same lines are there.
    std::fs::write(&path, &bytes[..usize::try_from(log.valid_bytes).expect("a short file")]).expect("a file");
    let cut = read_log(&path).expect("a file that is there");
    assert_eq!((cut.torn_bytes, cut.lines, cut.bad_lines), (0, log.lines, log.bad_lines));
}
