//! A tool: its name, description, input schema and implementation.

use std::sync::Arc;

use common::text_format;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CallContext, Reply};
use crate::exit::Failure;

/// Effect of a tool, by which clients decide whether to ask their users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// Changes nothing.
    ReadOnly,
    /// Adds something; a repeated call adds it again.
    Additive,
    /// Marks notices as shown; a repeated call may mark more.
    MarksNotices,
    /// Ends work, or changes or removes files and branches that exist; a repeated call has no further effect.
    Destructive,
}

type ToolFn = dyn Fn(JsonObject, &CallContext) -> Result<Reply, Failure> + Send + Sync;

pub struct Tool {
    listing: rmcp::model::Tool,
    run: Box<ToolFn>,
}

impl Tool {
    /// Creates a tool with the input type `A`. The input schema is derived from the type, and its descriptions from the
    /// doc comments of the fields.
    pub fn new<A: DeserializeOwned + JsonSchema + 'static>(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        effect: ToolEffect,
        run: impl Fn(A, &CallContext) -> Result<Reply, Failure> + Send + Sync + 'static,
    ) -> Self {
        let listing = rmcp::model::Tool::new(name, description, Arc::new(input_schema::<A>()))
            .with_title(title)
            .with_raw_output_schema(Arc::new(Reply::schema()))
            .with_annotations(annotations(effect));
        let run = move |input, call: &CallContext| {
            let invalid_input = |e: serde_json::Error| {
                Failure::usage(text_format::one_line(&format!("{name}: wrong input: {e}"), 500))
            };
            run(serde_json::from_value(Value::Object(input)).map_err(invalid_input)?, call)
        };
        Self { listing, run: Box::new(run) }
    }

    /// Returns the tool's entry in the list for clients.
    pub fn listing(&self) -> &rmcp::model::Tool {
        &self.listing
    }

    pub(super) fn name(&self) -> &str {
        &self.listing.name
    }

    /// Calls the tool, which may take minutes.
    ///
    /// # Errors
    /// Exit code 2 for an input that does not match the schema; otherwise the tool's own error.
    pub(super) fn run(&self, input: JsonObject, call: &CallContext) -> Result<Reply, Failure> {
        (self.run)(input, call)
    }
}

fn annotations(effect: ToolEffect) -> ToolAnnotations {
    ToolAnnotations::new()
        .read_only(effect == ToolEffect::ReadOnly)
        .destructive(effect == ToolEffect::Destructive)
        .idempotent(matches!(effect, ToolEffect::ReadOnly | ToolEffect::Destructive))
        .open_world(false)
}

/// Returns the schema of an input type. Optional fields don't allow `null`: more models understand simpler schemas.
fn input_schema<A: JsonSchema + 'static>() -> JsonObject {
    let mut schema = schema_for_type::<A>().as_ref().clone();
    for key in ["$schema", "title", "description"] {
        schema.remove(key);
    }
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(|fields| fields.values_mut()).filter_map(Value::as_object_mut) {
        if let Some(Value::Array(types)) = field.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only_type] = types.as_slice() {
                let only_type = only_type.clone();
                field.insert("type".to_owned(), only_type);
            }
        }
        if field.get("default").is_some_and(Value::is_null) {
            field.remove("default");
        }
        // Formats such as `uint` are specific to Rust.
        field.remove("format");
    }
    schema.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

#[cfg(test)]
mod tests {
    use rmcp::model::RequestMetaObject;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::exit::ExitCode;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Input {
        /// Word to say.
        word: String,
        /// How often.
        #[serde(default)]
        times: Option<usize>,
    }

    fn tool() -> Tool {
        Tool::new("say", "Say", "Says a word", ToolEffect::Additive, |input: Input, _: &CallContext| {
            Ok(Reply::new(&input.word.repeat(input.times.unwrap_or(1)), ExitCode::Done))
        })
    }

    #[test]
    fn the_schema_lists_exactly_the_fields_of_the_input() {
        let listing = serde_json::to_value(tool().listing).unwrap();
        assert_eq!(
            listing["inputSchema"],
            json!({
                "type": "object",
                "properties": {
                    "word": {"type": "string", "description": "Word to say."},
                    "times": {"type": "integer", "minimum": 0, "description": "How often."},
                },
                "required": ["word"],
                "additionalProperties": false,
            })
        );
        assert_eq!(
            listing["annotations"],
            json!({"readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": false})
        );
    }

    #[test]
    fn an_invalid_input_is_refused_with_the_name_of_the_field() {
        let call = CallContext::new(&RequestMetaObject::default(), || false);
        let run = |input: Value| tool().run(input.as_object().cloned().unwrap(), &call);
        assert_eq!(run(json!({"word": "a", "times": 2})), Ok(Reply::new("aa", ExitCode::Done)));
        assert_eq!(
            run(json!({"word": "a", "tims": 2})).unwrap_err(),
            Failure::usage("say: wrong input: unknown field `tims`, expected `word` or `times`")
        );
        assert_eq!(run(json!({})).unwrap_err(), Failure::usage("say: wrong input: missing field `word`"));
    }
}
