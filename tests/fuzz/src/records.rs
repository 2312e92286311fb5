//! Check of job specs, records and lines of the event log as JSON: each is refused, or does not change when it is
//! written and read again. Any lines can be folded into a record.

use common::event_line::EventLine;
use common::job::JobSpec;
use common::record::JobRecord;

/// Appends its checksum to a line, because a fuzzer does not find checksums by itself.
fn with_checksum(body: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c(body);
    [body, format!(",\"crc\":\"{sum:08x}\"}}").as_bytes()].concat()
}

/// Panics if a spec or a record changes when it is written and read again, or if lines are folded wrongly.
pub fn check(bytes: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<JobSpec>(bytes) {
        let written = serde_json::to_vec(&spec).expect("a spec that was read can be written");
        assert_eq!(serde_json::from_slice::<JobSpec>(&written).expect("a written spec can be read"), spec);
    }
    if let Ok(record) = serde_json::from_slice::<JobRecord>(bytes) {
        let written = record.to_bytes().expect("a record that was read can be written");
        assert_eq!(
            serde_json::from_slice::<JobRecord>(&written).expect("a written record can be read"),
            record
        );
    }
    let lines: Vec<EventLine> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|body| EventLine::parse(&with_checksum(body)).ok())
        .collect();
    if let Some(record) = JobRecord::rebuild(&lines) {
        assert_eq!(JobRecord::rebuild(&lines).as_ref(), Some(&record));
        record.to_bytes().expect("a record can be written");
    }
}
