//! Job specs, records and lines of the log as JSON: each is read as it was written, or refused; and a record accepts
//! any event.

use common::event_line::EventLine;
use common::job::JobSpec;
use common::record::JobRecord;

/// Appends the checksum to a line, which no fuzzer finds by itself.
fn sealed(body: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c(body);
    [body, format!(",\"crc\":\"{sum:08x}\"}}").as_bytes()].concat()
}

/// Panics if a spec, a record or an event changes when it is written and read again.
pub fn check(bytes: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<JobSpec>(bytes) {
        let again = serde_json::to_vec(&spec).expect("a spec that was read can be written");
        assert_eq!(serde_json::from_slice::<JobSpec>(&again).expect("and read again"), spec);
    }
    if let Ok(record) = serde_json::from_slice::<JobRecord>(bytes) {
        let again = record.to_bytes().expect("a record that was read can be written");
        assert_eq!(serde_json::from_slice::<JobRecord>(&again).expect("and read again"), record);
    }
    let lines: Vec<EventLine> =
        bytes.split(|byte| *byte == b'\n').filter_map(|body| EventLine::parse(&sealed(body)).ok()).collect();
    if let Some(record) = JobRecord::rebuild(&lines) {
        assert_eq!(JobRecord::rebuild(&lines).as_ref(), Some(&record));
        record.to_bytes().expect("a record can be written");
    }
}
