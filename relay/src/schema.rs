//! JSON Schemas of the formats that other programs read.
//!
//! The schemas are written by hand and checked in, so that the product need not generate them. Tests check every field
//! and value of the types, and every golden file, against the schemas.

use clap::ValueEnum;
use serde_json::{Value, json};

/// Formats that have a JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Schema {
    /// A job's record
    Record,
    /// A line of an event log, and a message of the events API
    Event,
    /// A job's spec
    Spec,
    /// Lease of the relay, relay.json
    Lease,
    /// Closing message of a job
    Summary,
}

impl Schema {
    /// Returns the name of the schema.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the text of the schema, which ends with a line break.
    pub fn text(self) -> &'static str {
        match self {
            Self::Record => include_str!("../schemas/record.json"),
            Self::Event => include_str!("../schemas/event.json"),
            Self::Spec => include_str!("../schemas/spec.json"),
            Self::Lease => include_str!("../schemas/lease.json"),
            Self::Summary => include_str!("../schemas/summary.json"),
        }
    }
}

/// Returns all schemas in one document, each in `$defs` under its name.
pub fn all_schemas() -> serde_json::Result<Value> {
    let mut schemas = serde_json::Map::new();
    for schema in Schema::value_variants() {
        schemas.insert(schema.name().to_owned(), serde_json::from_str(schema.text())?);
    }
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:relay:schema:all:1",
        "title": "What relay writes for other programs",
        "$defs": schemas,
    }))
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
