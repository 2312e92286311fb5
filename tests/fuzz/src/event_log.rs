//! Check of event logs: every byte of a log belongs to a valid line, to a line that is reported as damaged, or to an
//! incomplete last line. Valid lines do not change when they are written and read again.

use common::event_line::EventLine;
use relay::internals::read_log;

use super::folder;

/// Panics if a log is read wrongly.
pub fn check(bytes: &[u8]) {
    let path = folder().join("log");
    std::fs::write(&path, bytes).expect("a file");
    let log = read_log(&path).expect("a file that is there");
    assert_eq!(log.valid_bytes + log.torn_bytes, bytes.len() as u64);
    for line in log.lines.iter().filter(|line| line.event.is_some()) {
        let written = line.to_bytes().expect("a line that was read can be written");
        assert_eq!(&EventLine::parse(&written).expect("a line that was written can be read"), line);
    }
    // Without the incomplete last line, the log has the same lines.
    std::fs::write(&path, &bytes[..usize::try_from(log.valid_bytes).expect("a short file")]).expect("a file");
    let truncated = read_log(&path).expect("a file that is there");
    assert_eq!((truncated.torn_bytes, truncated.lines, truncated.bad_lines), (0, log.lines, log.bad_lines));
}
