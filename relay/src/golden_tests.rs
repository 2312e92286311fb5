//! Files of version 1 that must load for ever. New ones may be added; an old one is never edited.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::event::EventBody;
use common::event_line::EventLine;
use common::job::JobSpec;
use common::record::JobRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::registry::lease::Lease;
use crate::registry::requests::DaemonRequest;

/// A folder of golden files.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// Files of a golden folder with this suffix, with their texts.
pub(crate) fn files(folder_name: &str, end: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder(folder_name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, String)> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.ends_with(end))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no {end} in {folder_name}");
    files
}

pub(crate) fn event_lines() -> Vec<String> {
    let files = [files("v1", ".events.jsonl"), files("registry-v1", ".events.jsonl")].concat();
    files.iter().flat_map(|(_, text)| text.lines().map(str::to_owned)).collect()
}

/// Names of an enum's variants, from serde's error for a wrong one.
pub(crate) fn variants<T: DeserializeOwned>(wrong: &Value) -> BTreeSet<String> {
    let error = serde_json::from_value::<T>(wrong.clone()).err().unwrap().to_string();
    let (_, names) = error.split_once("expected ").unwrap();
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Fails unless every value of the file is in the value loaded from it.
fn keeps(name: &str, golden: &Value, loaded: &Value) {
    match (golden, loaded) {
        (Value::Object(golden), Value::Object(loaded)) => {
            for (key, value) in golden {
                keeps(&format!("{name}.{key}"), value, loaded.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(golden), Value::Array(loaded)) if golden.len() == loaded.len() => {
            for (at, (golden, loaded)) in golden.iter().zip(loaded).enumerate() {
                keeps(&format!("{name}[{at}]"), golden, loaded);
            }
        }
        _ => similar_asserts::assert_eq!(golden, loaded, "{name}"),
    }
}

/// Loads each file of this kind and compares the value to the text.
fn load<T: DeserializeOwned + Serialize>(end: &str) -> Vec<(String, T)> {
    let load = |(name, text): (String, String)| {
        let value: T = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut golden: Value = serde_json::from_str(&text).unwrap();
        if end == ".lease.json" {
            // The lease no longer contains the tokens that may connect, since a session may write it.
            let lease = golden.as_object_mut().unwrap();
            lease.retain(|key, _| !["token_sha256", "older_tokens_sha256"].contains(&key.as_str()));
        }
        keeps(&name, &golden, &serde_json::to_value(&value).unwrap());
        (name, value)
    };
    files("v1", end).into_iter().map(load).collect()
}

fn names<T>(files: &[(String, T)]) -> BTreeSet<String> {
    files.iter().map(|(name, _)| name.split('.').next().unwrap().to_owned()).collect()
}

#[test]
fn an_event_line_of_every_type_loads_for_ever() {
    let mut types = BTreeSet::new();
    for text in event_lines() {
        let line = EventLine::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(line.event.is_some(), "its type is unknown: {text}");
        let mut golden: Value = serde_json::from_str(&text).unwrap();
        let again: Value = serde_json::from_slice(&line.to_bytes().unwrap()).unwrap();
        // A different set of fields has a different checksum.
        golden.as_object_mut().unwrap().remove("crc");
        keeps(&text, &golden, &again);
        types.insert(golden["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, variants::<EventBody>(&serde_json::json!({"levitated": {}})));
}

#[test]
fn a_record_in_every_state_loads_for_ever() {
    let records = load::<JobRecord>(".record.json");
    for (name, record) in &records {
        assert_eq!(format!("{}.record.json", record.state.as_str()), *name);
        assert!(record.unknown_fields.is_empty(), "{name}");
    }
    assert_eq!(names(&records), variants::<common::record::State>(&"levitating".into()));
}

#[test]
fn a_spec_loads_for_ever() {
    assert_eq!(
        names(&load::<JobSpec>(".spec.json")),
        BTreeSet::from(["codex".to_owned(), "shell".to_owned()])
    );
}

#[test]
fn a_lease_in_every_state_of_the_platform_loads_for_ever() {
    let states = ["failed", "ready", "ready-after-death", "ready-with-shortage", "starting", "stopped"]
        .map(str::to_owned);
    assert_eq!(names(&load::<Lease>(".lease.json")), states.into());
}

#[test]
fn a_request_of_every_kind_loads_for_ever() {
    let requests = load::<DaemonRequest>(".request.json");
    assert_eq!(names(&requests), variants::<DaemonRequest>(&serde_json::json!({"op": "levitate"})));
}
