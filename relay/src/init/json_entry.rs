//! Entries of init in JSON files of other programs: hooks, permissions, MCP servers. Every other byte of such a file
//! stays as it is, also order and indentation.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value, json};

use super::change::{CHANGED_BY_HAND, Decision, Mode};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonEntry {
    /// The property `name` of the object at `object_path`.
    Property {
        /// Path of property names to the object.
        object_path: Vec<&'static str>,
        /// Name of the property.
        name: &'static str,
        /// Value of the property.
        value: Value,
    },
    /// An element of the array at `object_path`.
    Element {
        /// Path of property names to the array.
        array_path: Vec<&'static str>,
        /// Value of the element.
        value: Value,
        /// Text that identifies an element as written by init, even if a person has changed the element.
        own_marker: Option<&'static str>,
    },
}

/// Compares the entries to the existing text, and returns the change.
///
/// # Errors
/// Returns an error if the text is not JSON, or has a value of another type where an object or array is expected.
pub(super) fn decide_json(
    entries: &[JsonEntry],
    existing: Option<&str>,
    mode: Mode,
) -> Result<Decision, String> {
    let Some(text) = existing.filter(|text| !text.trim().is_empty()) else {
        return match mode {
            Mode::Put { .. } => new_file_text(entries).map(Decision::write),
            Mode::Remove => Ok(Decision::nothing()),
        };
    };
    let root = CstRootNode::parse(text, &JSON_PARSE_OPTIONS)
        .map_err(|e| common::text_format::one_line(&e.to_string(), 200))?;
    let root_object = root.object_value().ok_or("it is not a JSON object")?;
    let (mut kept_paths, mut replaces_text) = (Vec::new(), false);
    for entry in entries {
        let result = match mode {
            Mode::Put { force } => insert_entry(&root_object, entry, force)?,
            Mode::Remove => remove_entry(&root_object, entry)?,
        };
        match result {
            EntryResult::Unchanged => {}
            EntryResult::Replaced => replaces_text = true,
            EntryResult::Kept(what) => kept_paths.push(what),
        }
    }
    let new = root.to_string();
    let mut decision = match mode {
        _ if new == text => Decision::nothing(),
        Mode::Remove if root_object.properties().is_empty() => Decision::delete(),
        Mode::Put { .. } | Mode::Remove => Decision { keeps_copy: replaces_text, ..Decision::write(new) },
    };
    if !kept_paths.is_empty() {
        decision.kept_reason = Some(format!("{} {CHANGED_BY_HAND}", kept_paths.join(", ")));
    }
    Ok(decision)
}

/// JSON with comments and trailing commas, which some programs accept.
const JSON_PARSE_OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

enum EntryResult {
    Unchanged,
    Replaced,
    Kept(String),
}

/// Returns a file that contains only these entries.
fn new_file_text(entries: &[JsonEntry]) -> Result<String, String> {
    let mut root = Value::Object(Map::new());
    for entry in entries {
        let (JsonEntry::Property { object_path: path, value, .. }
        | JsonEntry::Element { array_path: path, value, .. }) = entry;
        let mut target = &mut root;
        for name in path {
            target = &mut target[*name];
        }
        match entry {
            JsonEntry::Property { name, .. } => target[*name] = value.clone(),
            JsonEntry::Element { .. } => match target {
                Value::Array(all) => all.push(value.clone()),
                other => *other = json!([value]),
            },
        }
    }
    serde_json::to_string_pretty(&root).map(|text| format!("{text}\n")).map_err(|e| e.to_string())
}

fn insert_entry(root_object: &CstObject, entry: &JsonEntry, force: bool) -> Result<EntryResult, String> {
    match entry {
        JsonEntry::Property { object_path: path, name, value } => {
            let object = object_at(root_object, path)?;
            match object.get(name) {
                None => drop(object.append(name, to_cst_value(value))),
                Some(existing) if existing.to_serde_value().as_ref() == Some(value) => {}
                Some(existing) if force => {
                    existing.set_value(to_cst_value(value));
                    return Ok(EntryResult::Replaced);
                }
                Some(_) => return Ok(EntryResult::Kept(format_path(path, name))),
            }
        }
        JsonEntry::Element { array_path: path, value, own_marker } => {
            let (name, parents) = path.split_last().ok_or("the path of the entry is empty")?;
            let array = object_at(root_object, parents)?
                .array_value_or_create(name)
                .ok_or_else(|| format!("{name} is not an array"))?;
            match find_own_element(&array, value, *own_marker) {
                Some((_, true)) => {}
                Some((existing, false)) if force => {
                    existing.remove();
                    array.append(to_cst_value(value));
                    return Ok(EntryResult::Replaced);
                }
                Some((_, false)) => return Ok(EntryResult::Kept(path.join("."))),
                None => drop(array.append(to_cst_value(value))),
            }
        }
    }
    Ok(EntryResult::Unchanged)
}

fn remove_entry(root_object: &CstObject, entry: &JsonEntry) -> Result<EntryResult, String> {
    let kept = match entry {
        JsonEntry::Property { object_path: path, name, value } => {
            let property = find_object(root_object, path).and_then(|object| object.get(name));
            match property {
                Some(existing) if existing.to_serde_value().as_ref() == Some(value) => {
                    existing.remove();
                    remove_empty_containers(root_object, path);
                    None
                }
                Some(_) => Some(format_path(path, name)),
                None => None,
            }
        }
        JsonEntry::Element { array_path: path, value, own_marker } => {
            let (name, parents) = path.split_last().ok_or("the path of the entry is empty")?;
            let array = find_object(root_object, parents).and_then(|object| object.array_value(name));
            match array.and_then(|array| find_own_element(&array, value, *own_marker)) {
                Some((existing, true)) => {
                    existing.remove();
                    remove_empty_containers(root_object, path);
                    None
                }
                Some((_, false)) => Some(path.join(".")),
                None => None,
            }
        }
    };
    Ok(kept.map_or(EntryResult::Unchanged, EntryResult::Kept))
}

/// Returns the element that init wrote, and true if it is unchanged.
fn find_own_element(array: &CstArray, value: &Value, own_marker: Option<&str>) -> Option<(CstNode, bool)> {
    let mut changed = None;
    for element in array.elements() {
        if element.to_serde_value().as_ref() == Some(value) {
            return Some((element, true));
        }
        if own_marker.is_some_and(|own_marker| element.to_string().contains(own_marker)) {
            changed.get_or_insert(element);
        }
    }
    changed.map(|element| (element, false))
}

/// Returns the object at `path`, and creates missing objects.
fn object_at(root_object: &CstObject, path: &[&str]) -> Result<CstObject, String> {
    let mut object = root_object.clone();
    for name in path {
        object = object.object_value_or_create(name).ok_or_else(|| format!("{name} is not an object"))?;
    }
    Ok(object)
}

fn find_object(root_object: &CstObject, path: &[&str]) -> Option<CstObject> {
    path.iter().try_fold(root_object.clone(), |object, name| object.object_value(name))
}

/// Removes containers on the path of a removed entry that have become empty.
fn remove_empty_containers(root_object: &CstObject, path: &[&str]) {
    for depth in (1..=path.len()).rev() {
        let Some((name, parents)) = path.get(..depth).and_then(<[&str]>::split_last) else { return };
        let Some(property) = find_object(root_object, parents).and_then(|object| object.get(name)) else {
            return;
        };
        let is_empty = match property.to_serde_value() {
            Some(Value::Object(all)) => all.is_empty(),
            Some(Value::Array(all)) => all.is_empty(),
            _ => false,
        };
        if !is_empty {
            return;
        }
        property.remove();
    }
}

fn format_path(parents: &[&str], name: &str) -> String {
    [parents, &[name]].concat().join(".")
}

fn to_cst_value(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(boolean) => CstInputValue::Bool(*boolean),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(all) => CstInputValue::Array(all.iter().map(to_cst_value).collect()),
        Value::Object(all) => CstInputValue::Object(
            all.iter().map(|(name, value)| (name.clone(), to_cst_value(value))).collect(),
        ),
    }
}

#[cfg(test)]
#[path = "json_entry_tests.rs"]
mod tests;
