//! Tests that every file of version 1 in `tests/golden` still loads. Files may be added there, but none is ever edited.

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

/// Returns the path of a folder in `tests/golden`.
pub(crate) fn golden_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// Returns the names and texts of the files of a golden folder that have this suffix.
pub(crate) fn golden_files(folder_name: &str, suffix: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(golden_folder(folder_name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, String)> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.ends_with(suffix))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no {suffix} in {folder_name}");
    files
}

pub(crate) fn event_lines() -> Vec<String> {
    let files = [golden_files("v1", ".events.jsonl"), golden_files("registry-v1", ".events.jsonl")].concat();
    files.iter().flat_map(|(_, text)| text.lines().map(str::to_owned)).collect()
}

/// Returns the names of an enum's variants, from serde's error for an unknown variant.
pub(crate) fn variant_names<T: DeserializeOwned>(unknown_variant: &Value) -> BTreeSet<String> {
    let error = serde_json::from_value::<T>(unknown_variant.clone()).err().unwrap().to_string();
    let (_, names) = error.split_once("expected ").unwrap();
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Fails unless every value of the golden JSON is also in the JSON of the loaded value.
fn assert_keeps_values(name: &str, golden: &Value, loaded: &Value) {
    match (golden, loaded) {
        (Value::Object(golden), Value::Object(loaded)) => {
            for (key, value) in golden {
                assert_keeps_values(&format!("{name}.{key}"), value, loaded.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(golden), Value::Array(loaded)) if golden.len() == loaded.len() => {
            for (at, (golden, loaded)) in golden.iter().zip(loaded).enumerate() {
                assert_keeps_values(&format!("{name}[{at}]"), golden, loaded);
            }
        }
        _ => similar_asserts::assert_eq!(golden, loaded, "{name}"),
    }
}

/// Loads each file with this suffix and compares the loaded value to the text of the file.
fn load_all<T: DeserializeOwned + Serialize>(suffix: &str) -> Vec<(String, T)> {
    let load = |(name, text): (String, String)| {
        let value: T = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut golden: Value = serde_json::from_str(&text).unwrap();
        if suffix == ".lease.json" {
            // The lease no longer contains the tokens that may connect, since a session may write it.
            let lease = golden.as_object_mut().unwrap();
            lease.retain(|key, _| !["token_sha256", "older_tokens_sha256"].contains(&key.as_str()));
        }
        assert_keeps_values(&name, &golden, &serde_json::to_value(&value).unwrap());
        (name, value)
    };
    golden_files("v1", suffix).into_iter().map(load).collect()
}

fn first_name_parts<T>(files: &[(String, T)]) -> BTreeSet<String> {
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
        assert_keeps_values(&text, &golden, &again);
        types.insert(golden["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, variant_names::<EventBody>(&serde_json::json!({"levitated": {}})));
}

#[test]
fn a_record_in_every_state_loads_for_ever() {
    let records = load_all::<JobRecord>(".record.json");
    for (name, record) in &records {
        assert_eq!(format!("{}.record.json", record.state.as_str()), *name);
        assert!(record.unknown_fields.is_empty(), "{name}");
    }
    assert_eq!(first_name_parts(&records), variant_names::<common::record::State>(&"levitating".into()));
}

#[test]
fn a_spec_loads_for_ever() {
    assert_eq!(
        first_name_parts(&load_all::<JobSpec>(".spec.json")),
        BTreeSet::from(["codex".to_owned(), "shell".to_owned()])
    );
}

#[test]
fn a_lease_in_every_state_of_the_platform_loads_for_ever() {
    let states = ["failed", "ready", "ready-after-death", "ready-with-shortage", "starting", "stopped"]
        .map(str::to_owned);
    assert_eq!(first_name_parts(&load_all::<Lease>(".lease.json")), states.into());
}

#[test]
fn a_request_of_every_kind_loads_for_ever() {
    let requests = load_all::<DaemonRequest>(".request.json");
    assert_eq!(
        first_name_parts(&requests),
        variant_names::<DaemonRequest>(&serde_json::json!({"op": "levitate"}))
    );
}
