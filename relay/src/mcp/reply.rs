//! Answer of a tool: the same content as text and as structured data, because clients show their model only one of
//! them.

use common::text_format;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use serde_json::{Map, Value, json};

use crate::exit::{ExitCode, Failure};

/// Maximum length of an answer's text, in bytes: a model reads all of the text.
const MAX_TEXT_LENGTH: usize = 16 * 1024;
/// Maximum length of a text in the structured data, in bytes. The answer's text may contain longer ones.
const MAX_STRUCTURED_TEXT: usize = 500;

/// Answer of a tool to one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    text: String,
    structured: Map<String, Value>,
    is_error: bool,
}

impl Reply {
    /// Creates an answer with the text for people and the command's exit code.
    pub fn new(text: &str, code: ExitCode) -> Self {
        let text = text_format::truncate(text_format::to_printable_lines(text).trim_end(), MAX_TEXT_LENGTH);
        let structured = Map::from_iter([("code".to_owned(), Value::from(code as u8))]);
        Self { text, structured, is_error: false }
    }

    /// Creates an answer from the command line's error message, reworded for the available tools, and its exit code.
    pub(super) fn from_failure(failure: &Failure, is_tool: impl Fn(&str) -> bool) -> Self {
        let line = replace_commands_by_tools(&text_format::to_printable(&failure.message), is_tool);
        Self { is_error: true, ..Self::new(&line, failure.code) }
    }

    /// Returns the schema of the structured data of every answer.
    pub(super) fn schema() -> JsonObject {
        let schema = json!({
            "type": "object",
            "required": ["text", "code"],
            "properties": {
                "text": {"type": "string", "description": "Text of the answer."},
                "code": {"type": "integer", "description": "0 done, 1 the job failed, 2 wrong input, 3 no such job, 5 relay or \
                    platform unreachable, 8 still running, 125 agent or container lost, 130 cancelled."},
                "records": {"type": "array", "items": {"type": "object"}, "description": "The jobs, in short."},
            },
        });
        schema.as_object().cloned().unwrap_or_default()
    }

    /// Adds a field to the structured data.
    #[must_use]
    pub fn with_field(mut self, name: &str, mut value: Value) -> Self {
        sanitize(&mut value);
        self.structured.insert(name.to_owned(), value);
        self
    }

    /// Converts the answer into MCP's form.
    pub(super) fn into_result(self) -> CallToolResult {
        let mut structured = Map::from_iter([("text".to_owned(), Value::from(self.text.clone()))]);
        structured.extend(self.structured);
        let mut result = CallToolResult::success(vec![ContentBlock::text(self.text)]);
        result.structured_content = Some(Value::Object(structured));
        result.is_error = Some(self.is_error);
        result
    }
}

/// Replaces commands with tools of the same name: "`relay wait abe#1 --any`" becomes "`wait` abe#1". Commands without a
/// tool stay.
fn replace_commands_by_tools(line: &str, is_tool: impl Fn(&str) -> bool) -> String {
    let mut parts = line.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    // Every second part of the line is quoted in backticks.
    while let Some(quoted) = parts.next() {
        let mut words = quoted.split(' ');
        let tool =
            (words.next() == Some("relay")).then(|| words.next()).flatten().filter(|name| is_tool(name));
        match tool {
            Some(tool) => {
                let rest = words.filter(|word| !word.starts_with('-')).map(|word| format!(" {word}"));
                text.extend(["`", tool, "`"]);
                text.extend(rest);
            }
            None => text.extend(["`", quoted, "`"]),
        }
        text += parts.next().unwrap_or_default();
    }
    text
}

/// Sanitizes the structured data, which may contain texts of workers: no long texts, no control characters.
fn sanitize(value: &mut Value) {
    match value {
        Value::String(text) => {
            *text = text_format::truncate(&text_format::to_printable_lines(text), MAX_STRUCTURED_TEXT);
        }
        Value::Array(values) => values.iter_mut().for_each(sanitize),
        Value::Object(fields) => fields.values_mut().for_each(sanitize),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_and_structured_data_are_equal_and_without_control_characters() {
        let reply = Reply::new("a \u{1b}[31mred\n", ExitCode::Done);
        let reply = reply.with_field("step", json!({"title": "x\u{202e}y", "n": 2, "long": "z".repeat(600)}));
        let result = serde_json::to_value(reply.into_result()).unwrap();
        assert_eq!(result["content"], json!([{"type": "text", "text": "a [31mred"}]));
        let structured = &result["structuredContent"];
        assert_eq!((&structured["text"], &structured["code"]), (&json!("a [31mred"), &json!(0)));
        assert_eq!(structured["step"]["title"], json!("xy"));
        assert_eq!(structured["step"]["long"].as_str().map(str::len), Some(MAX_STRUCTURED_TEXT));
        assert_eq!(result["isError"], json!(false));
    }

    #[test]
    fn a_failure_names_tools_instead_of_commands_and_keeps_its_exit_code() {
        let failure =
            Failure::no_such_job("no job 'x': `relay status -a` lists them; `relay up` is for `people");
        let failed = Reply::from_failure(&failure, |name| name == "status");
        let result = serde_json::to_value(failed.into_result()).unwrap();
        assert_eq!(result["isError"], json!(true));
        let line = "no job 'x': `status` lists them; `relay up` is for `people`";
        assert_eq!(result["structuredContent"], json!({"text": line, "code": 3}));
    }

    #[test]
    fn a_long_text_is_truncated() {
        let result = Reply::new(&"x".repeat(MAX_TEXT_LENGTH + 1), ExitCode::Done).into_result();
        let text = result.structured_content.unwrap()["text"].as_str().unwrap().len();
        assert_eq!(text, MAX_TEXT_LENGTH);
    }
}
