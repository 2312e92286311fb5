//! Tests that the schemas, the types and the golden files agree.

use std::collections::BTreeSet;

use common::event::{EventBody, FailureKind, Isolation, StepOutcome};
use common::event_line::EventLine;
use common::hold::OnQuota;
use common::job::{JobSpec, Runner, Sandbox, StepKind};
use common::record::JobRecord;
use common::rule::{OnLimit, OnLoop};
use jsonschema::Validator;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::engine_kind::EngineKind;
use crate::golden_tests::{event_lines, golden_files, variant_names};
use crate::registry::lease::Lease;

fn parse_schema(schema: Schema) -> Value {
    serde_json::from_str(schema.text()).unwrap()
}

fn open_validator(schema: Schema) -> Validator {
    jsonschema::validator_for(&parse_schema(schema)).unwrap()
}

/// Returns a variant of the schema that allows only the fields it describes.
fn strict_validator(schema: Schema) -> Validator {
    let mut text = parse_schema(schema);
    // A schema referenced by a `then` stays open, because it also sees the fields of the whole object.
    let mut then_references = BTreeSet::new();
    find_then_references(&text, &mut then_references);
    forbid_other_fields(&mut text, "", &then_references);
    jsonschema::validator_for(&text).unwrap()
}

fn find_then_references(node: &Value, then_references: &mut BTreeSet<String>) {
    if let Some(reference) = node.pointer("/then/$ref").and_then(Value::as_str) {
        then_references.insert(reference.trim_start_matches('#').to_owned());
    }
    match node {
        Value::Object(fields) => {
            fields.values().for_each(|field| find_then_references(field, then_references));
        }
        Value::Array(items) => items.iter().for_each(|item| find_then_references(item, then_references)),
        _ => {}
    }
}

fn forbid_other_fields(node: &mut Value, path: &str, then_references: &BTreeSet<String>) {
    let Value::Object(fields) = node else { return };
    if fields.contains_key("properties") && fields.contains_key("type") && !then_references.contains(path) {
        fields.insert("unevaluatedProperties".to_owned(), false.into());
    }
    for (key, field) in fields {
        forbid_other_fields(field, &format!("{path}/{key}"), then_references);
    }
}

fn assert_valid(validator: &Validator, name: &str, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert_eq!(errors, [""; 0], "{name}: {value}");
}

/// Checks golden files against a schema, and what this program writes for them against the strict schema.
fn assert_valid_files<T: DeserializeOwned + Serialize>(schema: Schema, files: Vec<(String, String)>) {
    for (name, text) in files {
        assert_valid(&open_validator(schema), &name, &serde_json::from_str(&text).unwrap());
        let value: T = serde_json::from_str(&text).unwrap();
        assert_valid(&strict_validator(schema), &name, &serde_json::to_value(value).unwrap());
    }
}

#[test]
fn every_golden_event_is_valid_and_every_field_that_is_written_is_described() {
    let (open, strict) = (open_validator(Schema::Event), strict_validator(Schema::Event));
    for text in event_lines() {
        assert_valid(&open, "golden", &serde_json::from_str(&text).unwrap());
        let rewritten = EventLine::parse(text.as_bytes()).unwrap().to_bytes().unwrap();
        assert_valid(&strict, "today's", &serde_json::from_slice(&rewritten).unwrap());
    }
}

#[test]
fn every_golden_record_spec_and_lease_is_valid_and_every_written_field_is_described() {
    let mut records = golden_files("v1", ".record.json");
    records.extend(golden_files("registry-v1", ".json"));
    let summaries: Vec<Value> = records
        .iter()
        .map(|(_, text)| serde_json::from_str::<Value>(text).unwrap()["summary"].take())
        .filter(|summary| !summary.is_null())
        .collect();
    assert!(summaries.len() >= 5);
    for summary in &summaries {
        assert_valid(&open_validator(Schema::Summary), "summary", summary);
    }
    assert_valid_files::<JobRecord>(Schema::Record, records);
    let specs = [golden_files("v1", ".spec.json"), golden_files("registry-v1", ".spec")].concat();
    assert_valid_files::<JobSpec>(Schema::Spec, specs);
    assert_valid_files::<Lease>(Schema::Lease, golden_files("v1", ".lease.json"));
}

#[test]
fn every_value_of_an_enum_is_named_in_the_schemas() {
    let event = parse_schema(Schema::Event);
    let record = parse_schema(Schema::Record);
    let unknown_variant = Value::from("levitated");
    for (node, pointer, values) in [
        (&event, "/properties/type/examples", variant_names::<EventBody>(&json!({"levitated": {}}))),
        (&event, "/$defs/step_kind/examples", variant_names::<StepKind>(&unknown_variant)),
        (&event, "/$defs/outcome/examples", variant_names::<StepOutcome>(&unknown_variant)),
        (&event, "/$defs/failure_kind/examples", variant_names::<FailureKind>(&unknown_variant)),
        (&event, "/$defs/isolation/examples", variant_names::<Isolation>(&unknown_variant)),
        (&event, "/$defs/runner/examples", variant_names::<Runner>(&unknown_variant)),
        (&event, "/$defs/engine/examples", variant_names::<EngineKind>(&unknown_variant)),
        (&event, "/properties/source/enum", variant_names::<common::event_line::Source>(&unknown_variant)),
        (
            &event,
            "/$defs/finished/properties/state/enum",
            variant_names::<common::event::FinalState>(&unknown_variant),
        ),
        (&record, "/properties/state/enum", variant_names::<common::record::State>(&unknown_variant)),
        (&parse_schema(Schema::Spec), "/$defs/on_limit/examples", variant_names::<OnLimit>(&unknown_variant)),
        (
            &parse_schema(Schema::Spec),
            "/properties/on_loop/examples",
            variant_names::<OnLoop>(&unknown_variant),
        ),
        (
            &parse_schema(Schema::Spec),
            "/properties/on_quota/examples",
            variant_names::<OnQuota>(&unknown_variant),
        ),
        (
            &parse_schema(Schema::Spec),
            "/$defs/codex/properties/sandbox/examples",
            variant_names::<Sandbox>(&unknown_variant),
        ),
    ] {
        let schema_values = node.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        let schema_values: BTreeSet<String> = serde_json::from_value(schema_values.clone()).unwrap();
        assert_eq!(schema_values, values, "{pointer}");
    }
    for definition in
        ["job", "runner", "engine", "isolation", "step_kind", "outcome", "failure_kind", "error", "changes"]
    {
        assert_eq!(event["$defs"][definition], record["$defs"][definition], "{definition}");
    }
}

#[test]
fn fields_and_types_of_newer_programs_are_valid_and_wrong_values_are_not() {
    let schema = open_validator(Schema::Event);
    let line = event_lines().into_iter().find(|line| line.contains("\"type\":\"finished\"")).unwrap();
    let is_valid_with = |key: &str, value: Value| {
        let mut line: Value = serde_json::from_str(&line).unwrap();
        line[key] = value;
        schema.is_valid(&line)
    };
    assert!(is_valid_with("height", 3.into()) && is_valid_with("type", "levitated".into()));
    for (key, value) in [
        ("v", 2.into()),
        ("id", 0.into()),
        ("job", "../x#1".into()),
        ("at", "yesterday".into()),
        ("state", "levitating".into()),
        ("error", 3.into()),
        ("crc", Value::Null),
    ] {
        assert!(!is_valid_with(key, value.clone()), "{key}: {value}");
    }
}

#[test]
fn the_document_of_all_schemas_validates_an_event() {
    let mut document = all_schemas().unwrap();
    document["$ref"] = "urn:relay:schema:event:1".into();
    let validator = jsonschema::validator_for(&document).unwrap();
    let line = serde_json::from_str(&event_lines()[0]).unwrap();
    assert_valid(&validator, "event", &line);
    assert!(!validator.is_valid(&json!({"v": 1})));
}
