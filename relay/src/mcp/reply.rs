//! Answer of a tool: the same content as text and as structured data, because some clients show their model the one,
//! and some the other.

use common::text;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use serde_json::{Map, Value, json};

use crate::exit::{Code, Failure};

/// Maximum length of the text, in bytes: a model reads all of it.
const MAX_TEXT: usize = 16 * 1024;
/// Maximum length of a text among the facts, in bytes: the answer's text contains longer ones.
const MAX_FACT: usize = 500;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    text: String,
    facts: Map<String, Value>,
    failed: bool,
}

impl Reply {
    /// Creates an answer with the text for people and the command's exit code.
    pub fn new(text: &str, code: Code) -> Self {
        let text = text::truncate(text::printable_lines(text).trim_end(), MAX_TEXT);
        let facts = Map::from_iter([("code".to_owned(), Value::from(code as u8))]);
        Self { text, facts, failed: false }
    }

    /// Creates an answer from the command line's error message, reworded for the available tools, and its exit code.
    pub(super) fn failed(failure: &Failure, is_tool: impl Fn(&str) -> bool) -> Self {
        let line = in_words_of_tools(&text::printable(&failure.message), is_tool);
        Self { failed: true, ..Self::new(&line, failure.code) }
    }

    /// Schema of every answer's structured data.
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

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, mut value: Value) -> Self {
        clean(&mut value);
        self.facts.insert(name.to_owned(), value);
        self
    }

    /// Converts the answer into MCP's form.
    pub(super) fn into_result(self) -> CallToolResult {
        let mut structured = Map::from_iter([("text".to_owned(), Value::from(self.text.clone()))]);
        structured.extend(self.facts);
        let mut result = CallToolResult::success(vec![ContentBlock::text(self.text)]);
        result.structured_content = Some(Value::Object(structured));
        result.is_error = Some(self.failed);
        result
    }
}

/// Replaces a command with a tool of the same name: "`relay wait abe#1 --any`" becomes "`wait` abe#1". Commands without
/// a tool are for people.
fn in_words_of_tools(line: &str, is_tool: impl Fn(&str) -> bool) -> String {
    let mut parts = line.split('`');
    let mut said = parts.next().unwrap_or_default().to_owned();
    // Every second part is a quotation.
    while let Some(quoted) = parts.next() {
        let mut words = quoted.split(' ');
        let tool =
            (words.next() == Some("relay")).then(|| words.next()).flatten().filter(|name| is_tool(name));
        match tool {
            Some(tool) => {
                let rest = words.filter(|word| !word.starts_with('-')).map(|word| format!(" {word}"));
                said.extend(["`", tool, "`"]);
                said.extend(rest);
            }
            None => said.extend(["`", quoted, "`"]),
        }
        said += parts.next().unwrap_or_default();
    }
    said
}

/// Sanitizes the facts. They may contain texts of workers, so no text may be long or contain control characters.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = text::truncate(&text::printable_lines(text), MAX_FACT),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_and_structure_say_the_same_and_do_nothing_to_a_terminal() {
        let reply = Reply::new("a \u{1b}[31mred\n", Code::Done);
        let reply = reply.with("step", json!({"title": "x\u{202e}y", "n": 2, "long": "z".repeat(600)}));
        let result = serde_json::to_value(reply.into_result()).unwrap();
        assert_eq!(result["content"], json!([{"type": "text", "text": "a [31mred"}]));
        let structured = &result["structuredContent"];
        assert_eq!((&structured["text"], &structured["code"]), (&json!("a [31mred"), &json!(0)));
        assert_eq!(structured["step"]["title"], json!("xy"));
        assert_eq!(structured["step"]["long"].as_str().map(str::len), Some(MAX_FACT));
        assert_eq!(result["isError"], json!(false));
    }

    #[test]
    fn a_failure_is_the_line_and_the_code_of_the_command_line_in_words_of_the_tools() {
        let failure =
            Failure::no_such_job("no job 'x': `relay status -a` lists them; `relay up` is for `people");
        let failed = Reply::failed(&failure, |name| name == "status");
        let result = serde_json::to_value(failed.into_result()).unwrap();
        assert_eq!(result["isError"], json!(true));
        let line = "no job 'x': `status` lists them; `relay up` is for `people`";
        assert_eq!(result["structuredContent"], json!({"text": line, "code": 3}));
    }

    #[test]
    fn a_long_text_is_cut() {
        let result = Reply::new(&"x".repeat(MAX_TEXT + 1), Code::Done).into_result();
        let text = result.structured_content.unwrap()["text"].as_str().unwrap().len();
        assert_eq!(text, MAX_TEXT);
    }
}
