//! Consistency of the schemas, the types and the golden files.

use std::collections::BTreeSet;

use common::event::{EventBody, FailureKind, Isolation, StepOutcome};
use common::event_line::EventLine;
use common::job::{JobSpec, Runner, Sandbox, StepKind};
use common::record::JobRecord;
use common::rule::{OnLimit, OnLoop};
use jsonschema::Validator;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::engine_kind::EngineKind;
use crate::golden_tests::{event_lines, files, variants};
use crate::registry::lease::Lease;

fn parsed(schema: Schema) -> Value {
    serde_json::from_str(schema.text()).unwrap()
}

fn open(schema: Schema) -> Validator {
    jsonschema::validator_for(&parsed(schema)).unwrap()
}

/// Returns a variant of the schema that allows only the fields it describes.
fn strict(schema: Schema) -> Validator {
    let mut text = parsed(schema);
    // A schema referenced by a `then` also sees fields of the whole object.
    let mut parts = BTreeSet::new();
    find_parts(&text, &mut parts);
    close(&mut text, "", &parts);
    jsonschema::validator_for(&text).unwrap()
}

fn find_parts(node: &Value, parts: &mut BTreeSet<String>) {
    if let Some(part) = node.pointer("/then/$ref").and_then(Value::as_str) {
        parts.insert(part.trim_start_matches('#').to_owned());
    }
    match node {
        Value::Object(fields) => fields.values().for_each(|field| find_parts(field, parts)),
        Value::Array(items) => items.iter().for_each(|item| find_parts(item, parts)),
        _ => {}
    }
}

fn close(node: &mut Value, path: &str, parts: &BTreeSet<String>) {
    let Value::Object(fields) = node else { return };
    if fields.contains_key("properties") && fields.contains_key("type") && !parts.contains(path) {
        fields.insert("unevaluatedProperties".to_owned(), false.into());
    }
    for (key, field) in fields {
        close(field, &format!("{path}/{key}"), parts);
    }
}

fn hold(validator: &Validator, name: &str, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert_eq!(errors, [""; 0], "{name}: {value}");
}

/// Checks golden files against a schema, and the output of the current program for them against its strict form.
fn hold_files<T: DeserializeOwned + Serialize>(schema: Schema, files: Vec<(String, String)>) {
    for (name, text) in files {
        hold(&open(schema), &name, &serde_json::from_str(&text).unwrap());
        let value: T = serde_json::from_str(&text).unwrap();
        hold(&strict(schema), &name, &serde_json::to_value(value).unwrap());
    }
}

#[test]
fn every_golden_event_is_valid_and_every_field_that_is_written_is_described() {
    let (open, strict) = (open(Schema::Event), strict(Schema::Event));
    for text in event_lines() {
        hold(&open, "golden", &serde_json::from_str(&text).unwrap());
        let today = EventLine::parse(text.as_bytes()).unwrap().to_bytes().unwrap();
        hold(&strict, "today's", &serde_json::from_slice(&today).unwrap());
    }
}

#[test]
fn every_golden_record_spec_and_lease_is_valid_and_every_written_field_is_described() {
    let mut records = files("v1", ".record.json");
    records.extend(files("registry-v1", ".json"));
    let summaries: Vec<Value> = records
        .iter()
        .map(|(_, text)| serde_json::from_str::<Value>(text).unwrap()["summary"].take())
        .filter(|summary| !summary.is_null())
        .collect();
    assert!(summaries.len() >= 5);
    for summary in &summaries {
        hold(&open(Schema::Summary), "summary", summary);
    }
    hold_files::<JobRecord>(Schema::Record, records);
    let specs = [files("v1", ".spec.json"), files("registry-v1", ".spec")].concat();
    hold_files::<JobSpec>(Schema::Spec, specs);
    hold_files::<Lease>(Schema::Lease, files("v1", ".lease.json"));
}

#[test]
fn every_value_that_is_written_is_named() {
    let event = parsed(Schema::Event);
    let record = parsed(Schema::Record);
    let wrong = Value::from("levitated");
    for (node, pointer, values) in [
        (&event, "/properties/type/examples", variants::<EventBody>(&json!({"levitated": {}}))),
        (&event, "/$defs/step_kind/examples", variants::<StepKind>(&wrong)),
        (&event, "/$defs/outcome/examples", variants::<StepOutcome>(&wrong)),
        (&event, "/$defs/failure_kind/examples", variants::<FailureKind>(&wrong)),
        (&event, "/$defs/isolation/examples", variants::<Isolation>(&wrong)),
        (&event, "/$defs/runner/examples", variants::<Runner>(&wrong)),
        (&event, "/$defs/engine/examples", variants::<EngineKind>(&wrong)),
        (&event, "/properties/source/enum", variants::<common::event_line::Source>(&wrong)),
        (&event, "/$defs/finished/properties/state/enum", variants::<common::event::FinalState>(&wrong)),
        (&record, "/properties/state/enum", variants::<common::record::State>(&wrong)),
        (&parsed(Schema::Spec), "/$defs/on_limit/examples", variants::<OnLimit>(&wrong)),
        (&parsed(Schema::Spec), "/properties/on_loop/examples", variants::<OnLoop>(&wrong)),
        (&parsed(Schema::Spec), "/$defs/codex/properties/sandbox/examples", variants::<Sandbox>(&wrong)),
    ] {
        let named = node.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        let named: BTreeSet<String> = serde_json::from_value(named.clone()).unwrap();
        assert_eq!(named, values, "{pointer}");
    }
    for shared in
        ["job", "runner", "engine", "isolation", "step_kind", "outcome", "failure_kind", "error", "changes"]
    {
        assert_eq!(event["$defs"][shared], record["$defs"][shared], "{shared}");
    }
}

#[test]
fn fields_and_types_of_newer_programs_are_valid_and_nonsense_is_not() {
    let schema = open(Schema::Event);
    let line = event_lines().into_iter().find(|line| line.contains("\"type\":\"finished\"")).unwrap();
    let with = |key: &str, value: Value| {
        let mut line: Value = serde_json::from_str(&line).unwrap();
        line[key] = value;
        schema.is_valid(&line)
    };
    assert!(with("height", 3.into()) && with("type", "levitated".into()));
    for (key, value) in [
        ("v", 2.into()),
        ("id", 0.into()),
        ("job", "../x#1".into()),
        ("at", "yesterday".into()),
        ("state", "levitating".into()),
        ("error", 3.into()),
        ("crc", Value::Null),
    ] {
        assert!(!with(key, value.clone()), "{key}: {value}");
    }
}

#[test]
fn all_schemas_make_one_document_that_can_be_used() {
    let mut all = all().unwrap();
    all["$ref"] = "urn:relay:schema:event:1".into();
    let validator = jsonschema::validator_for(&all).unwrap();
    let line = serde_json::from_str(&event_lines()[0]).unwrap();
    hold(&validator, "event", &line);
    assert!(!validator.is_valid(&json!({"v": 1})));
}
