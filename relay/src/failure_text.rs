//! Failure of a job, in a word and in a line.

use common::record::JobRecord;
use common::text;

/// Maximum length of the message, in bytes: that of a row of `relay status`.
const MAX_MESSAGE: usize = 240;

/// Kind of a failure, as named in the record's JSON; empty without a failure.
pub fn failure_kind(record: &JobRecord) -> String {
    let kind = record.error.as_ref().and_then(|error| serde_json::to_value(error.kind).ok());
    kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().to_owned()
}

/// Reason of a job's failure, in one line.
pub fn reason(record: &JobRecord) -> String {
    let message = record.error.as_ref().map(|error| text::one_line(&error.message, MAX_MESSAGE));
    format!("{}: {}", failure_kind(record), message.unwrap_or_default())
}
