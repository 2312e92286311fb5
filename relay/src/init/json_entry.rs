//! Entries in JSON files of other programs: hooks, permissions, MCP servers. Every byte of the rest of the file is
//! kept, with its order and indentation.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value, json};

use super::change::{BY_HAND, Decision, Mode};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The property `name` of the object at `at`.
    Property {
        /// Path of property names to the object.
        at: Vec<&'static str>,
        /// Name of the property.
        name: &'static str,
        /// Value of the property.
        value: Value,
    },
    /// An element of the array at `at`.
    Element {
        /// Path of property names to the array.
        at: Vec<&'static str>,
        /// Value of the element.
        value: Value,
        /// Text that identifies an element as the relay's own, even when it was changed.
        kin: Option<&'static str>,
    },
}

/// Compares the entries to the existing text `there` and decides on the change.
///
/// # Errors
/// Returns an error if the text is not JSON, or has another value in the place of an object or array.
pub(super) fn decide_json(entries: &[Entry], there: Option<&str>, mode: Mode) -> Result<Decision, String> {
    let Some(text) = there.filter(|text| !text.trim().is_empty()) else {
        return match mode {
            Mode::Put { .. } => fresh(entries).map(Decision::write),
            Mode::Remove => Ok(Decision::nothing()),
        };
    };
    let root = CstRootNode::parse(text, &STRICT).map_err(|e| common::text::one_line(&e.to_string(), 200))?;
    let top = root.object_value().ok_or("it is not a JSON object")?;
    let (mut kept, mut copy) = (Vec::new(), false);
    for entry in entries {
        let done = match mode {
            Mode::Put { force } => insert_entry(&top, entry, force)?,
            Mode::Remove => remove_entry(&top, entry)?,
        };
        match done {
            Done::Fine => {}
            Done::Replaced => copy = true,
            Done::Kept(what) => kept.push(what),
        }
    }
    let new = root.to_string();
    let mut decision = match mode {
        _ if new == text => Decision::nothing(),
        Mode::Remove if top.properties().is_empty() => Decision::delete(),
        Mode::Put { .. } | Mode::Remove => Decision { copy, ..Decision::write(new) },
    };
    if !kept.is_empty() {
        decision.kept = Some(format!("{} {BY_HAND}", kept.join(", ")));
    }
    Ok(decision)
}

/// JSON with comments and trailing commas, which some programs accept.
const STRICT: ParseOptions = ParseOptions {
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

/// Result for one entry.
enum Done {
    Fine,
    Replaced,
    Kept(String),
}

/// Returns a file that contains only these entries.
fn fresh(entries: &[Entry]) -> Result<String, String> {
    let mut root = Value::Object(Map::new());
    for entry in entries {
        let (Entry::Property { at, value, .. } | Entry::Element { at, value, .. }) = entry;
        let mut place = &mut root;
        for name in at {
            place = &mut place[*name];
        }
        match entry {
            Entry::Property { name, .. } => place[*name] = value.clone(),
            Entry::Element { .. } => match place {
                Value::Array(all) => all.push(value.clone()),
                other => *other = json!([value]),
            },
        }
    }
    serde_json::to_string_pretty(&root).map(|text| format!("{text}\n")).map_err(|e| e.to_string())
}

fn insert_entry(top: &CstObject, entry: &Entry, force: bool) -> Result<Done, String> {
    match entry {
        Entry::Property { at, name, value } => {
            let object = object(top, at)?;
            match object.get(name) {
                None => drop(object.append(name, input(value))),
                Some(there) if there.to_serde_value().as_ref() == Some(value) => {}
                Some(there) if force => {
                    there.set_value(input(value));
                    return Ok(Done::Replaced);
                }
                Some(_) => return Ok(Done::Kept(path(at, name))),
            }
        }
        Entry::Element { at, value, kin } => {
            let (last, before) = at.split_last().ok_or("an element needs a place")?;
            let array = object(top, before)?
                .array_value_or_create(last)
                .ok_or_else(|| format!("{last} is not an array"))?;
            match find_own(&array, value, *kin) {
                Some((_, true)) => {}
                Some((there, false)) if force => {
                    there.remove();
                    array.append(input(value));
                    return Ok(Done::Replaced);
                }
                Some((_, false)) => return Ok(Done::Kept(at.join("."))),
                None => drop(array.append(input(value))),
            }
        }
    }
    Ok(Done::Fine)
}

fn remove_entry(top: &CstObject, entry: &Entry) -> Result<Done, String> {
    let kept = match entry {
        Entry::Property { at, name, value } => {
            let property = walk(top, at).and_then(|object| object.get(name));
            match property {
                Some(there) if there.to_serde_value().as_ref() == Some(value) => {
                    there.remove();
                    prune(top, at);
                    None
                }
                Some(_) => Some(path(at, name)),
                None => None,
            }
        }
        Entry::Element { at, value, kin } => {
            let (last, before) = at.split_last().ok_or("an element needs a place")?;
            let array = walk(top, before).and_then(|object| object.array_value(last));
            match array.and_then(|array| find_own(&array, value, *kin)) {
                Some((there, true)) => {
                    there.remove();
                    prune(top, at);
                    None
                }
                Some((_, false)) => Some(at.join(".")),
                None => None,
            }
        }
    };
    Ok(kept.map_or(Done::Fine, Done::Kept))
}

/// Returns the relay's own element, and true if it is as init wrote it.
fn find_own(array: &CstArray, value: &Value, kin: Option<&str>) -> Option<(CstNode, bool)> {
    let mut changed = None;
    for element in array.elements() {
        if element.to_serde_value().as_ref() == Some(value) {
            return Some((element, true));
        }
        if kin.is_some_and(|kin| element.to_string().contains(kin)) {
            changed.get_or_insert(element);
        }
    }
    changed.map(|element| (element, false))
}

/// Returns the object at `at`, created if it is missing.
fn object(top: &CstObject, at: &[&str]) -> Result<CstObject, String> {
    let mut object = top.clone();
    for name in at {
        object = object.object_value_or_create(name).ok_or_else(|| format!("{name} is not an object"))?;
    }
    Ok(object)
}

fn walk(top: &CstObject, at: &[&str]) -> Option<CstObject> {
    at.iter().try_fold(top.clone(), |object, name| object.object_value(name))
}

/// Removes containers on the path of a removed entry that have become empty.
fn prune(top: &CstObject, at: &[&str]) {
    for depth in (1..=at.len()).rev() {
        let Some((last, before)) = at.get(..depth).and_then(<[&str]>::split_last) else { return };
        let Some(property) = walk(top, before).and_then(|object| object.get(last)) else { return };
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

fn path(at: &[&str], name: &str) -> String {
    [at, &[name]].concat().join(".")
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(yes) => CstInputValue::Bool(*yes),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(all) => CstInputValue::Array(all.iter().map(input).collect()),
        Value::Object(all) => {
            CstInputValue::Object(all.iter().map(|(name, value)| (name.clone(), input(value))).collect())
        }
    }
}

#[cfg(test)]
#[path = "json_entry_tests.rs"]
mod tests;
