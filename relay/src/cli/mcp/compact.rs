//! Short form of a record: the fields that a program needs for decisions. The rest is for people, in the text of the
//! reply, as far as the command prints it.

use serde_json::{Map, Value};

use crate::mcp::Reply;

/// Fields of a record in the short form.
const RECORD_FIELDS: [&str; 13] = [
    "job",
    "state",
    "link",
    "workspace",
    "created_at",
    "started_at",
    "finished_at",
    "step",
    "held",
    "error",
    "warnings",
    "exit_code",
    "log_path",
];
/// Fields of a step in the short form.
const STEP_FIELDS: [&str; 5] = ["n", "kind", "title", "started_at", "limit_ms"];

/// Returns the short form of a record's JSON. Fields with `null` are omitted.
pub(super) fn compact_record(record: &Value) -> Value {
    let mut short = pick_fields(record, &RECORD_FIELDS);
    if let Some(step) = short.get_mut("step") {
        *step = Value::Object(pick_fields(step, &STEP_FIELDS));
    }
    if short.get("warnings").is_some_and(|warnings| warnings["count"] == 0) {
        short.remove("warnings");
    }
    Value::Object(short)
}

/// Adds the short form of the records of a command to the reply, in the same field for every tool.
pub(super) fn with_records(reply: Reply, records: &[Value]) -> Reply {
    reply.with_field("records", compact_records(records))
}

/// Returns the short form of each record.
pub(super) fn compact_records(records: &[Value]) -> Value {
    records.iter().map(compact_record).collect()
}

fn pick_fields(value: &Value, fields: &[&str]) -> Map<String, Value> {
    let found = fields.iter().filter_map(|field| Some(((*field).to_owned(), value.get(field)?.clone())));
    found.filter(|(_, value)| !value.is_null()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn the_short_form_of_a_record_matches_the_snapshot() {
        let short = compact_record(&serde_json::to_value(samples::running_record()).unwrap());
        insta::assert_snapshot!(format!("{short:#}"));
        let long = compact_record(&serde_json::to_value(samples::hostile_record()).unwrap());
        assert_eq!(long["state"], "running");
    }
}
