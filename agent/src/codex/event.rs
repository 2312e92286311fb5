//! Parser of one line of `codex exec --json`. Pure and lenient.
//!
//! Parsing never fails: a line that is not understood becomes [`CodexEvent::Unknown`], which the agent counts. If a
//! key occurs twice, the last one counts (`web_search` items have two ids).

use common::event::{ChangedFile, MAX_LIST, MAX_TEXT, PlanItem, Usage};
use common::text_format;
use serde_json_borrow::{ObjectAsVec, Value};

use super::lines::Line;
use super::truncated;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CodexEvent {
    /// A thread started or was resumed.
    ThreadStarted {
        /// Thread id.
        id: String,
    },
    TurnStarted,
    TurnCompleted {
        /// Tokens of the whole thread, if reported.
        usage: Option<Usage>,
    },
    TurnFailed {
        /// Reason.
        message: String,
    },
    /// A notice of a retry, or the reason of a failure that `turn.failed` is about to report.
    Error {
        /// Text of the error.
        message: String,
    },
    Item {
        /// Progress of the item.
        phase: Phase,
        /// Item id, unique within one Codex process.
        id: String,
        item: Item,
    },
    /// Any other line.
    Unknown {
        /// Type of the event, or a description of the line if it has no type.
        description: String,
    },
}

/// Progress of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The item began.
    Started,
    /// The item changed.
    Updated,
    Completed,
}

/// An item of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A summary of the model's reasoning.
    Reasoning(String),
    /// A message of the model.
    Message(String),
    Command {
        /// Command line, wrapped in a shell as Codex runs it.
        command: String,
        /// Complete output of the command, once it has ended.
        output: String,
        /// Offset in the output at which bytes were cut out, and the number of these bytes.
        gap: Option<(usize, u64)>,
        /// Exit code, once the command has ended.
        exit_code: Option<i32>,
        /// True if Codex reports the command as failed.
        failed: bool,
    },
    Files {
        files: Vec<ChangedFile>,
        failed: bool,
    },
    /// A call of a tool or of another agent.
    Tool {
        /// Name of the tool, for display.
        name: String,
        failed: bool,
    },
    Search(String),
    Plan(Vec<PlanItem>),
    Warning(String),
    UnknownType(String),
}

/// Parses a line; returns `None` for a blank line.
pub(crate) fn parse(line: &Line) -> Option<CodexEvent> {
    let event = match line {
        Line::Whole(bytes) if bytes.trim_ascii().is_empty() => return None,
        Line::Whole(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let value: Result<Value<'_>, _> = serde_json::from_str(text.trim_start_matches('\u{feff}'));
            value.ok().map(|value| parse_event(&value, 0))
        }
        Line::Truncated { head, tail, dropped_bytes } => truncated::recover_fields(head, tail)
            .map(|value| parse_event(&Value::from(&value), *dropped_bytes)),
    };
    Some(event.unwrap_or_else(|| CodexEvent::Unknown { description: "a line that is not JSON".to_owned() }))
}

fn parse_event(value: &Value<'_>, dropped_bytes: u64) -> CodexEvent {
    match str_field(value, "type") {
        "thread.started" => CodexEvent::ThreadStarted { id: bounded_field(value, "thread_id", 100) },
        "turn.started" => CodexEvent::TurnStarted,
        "turn.completed" => CodexEvent::TurnCompleted { usage: parse_usage(last_field(value, "usage")) },
        "turn.failed" => {
            CodexEvent::TurnFailed { message: bounded_field(last_field(value, "error"), "message", MAX_TEXT) }
        }
        "error" => CodexEvent::Error { message: bounded_field(value, "message", MAX_TEXT) },
        "item.started" => parse_item(Phase::Started, last_field(value, "item"), dropped_bytes),
        "item.updated" => parse_item(Phase::Updated, last_field(value, "item"), dropped_bytes),
        "item.completed" => parse_item(Phase::Completed, last_field(value, "item"), dropped_bytes),
        other => CodexEvent::Unknown { description: text_format::one_line(other, 60) },
    }
}

fn parse_item(phase: Phase, value: &Value<'_>, dropped_bytes: u64) -> CodexEvent {
    let failed = matches!(str_field(value, "status"), "failed" | "declined");
    let item = match str_field(value, "type") {
        "reasoning" => Item::Reasoning(bounded_field(value, "text", MAX_TEXT)),
        "agent_message" => Item::Message(str_field(value, "text").to_owned()),
        "command_execution" => Item::Command {
            command: str_field(value, "command").to_owned(),
            output: str_field(value, "aggregated_output").to_owned(),
            gap: parse_gap(value, dropped_bytes),
            exit_code: last_field(value, "exit_code").as_i64().and_then(|code| i32::try_from(code).ok()),
            failed,
        },
        "file_change" => Item::Files { files: parse_files(last_field(value, "changes")), failed },
        "mcp_tool_call" => Item::Tool {
            name: text_format::one_line(
                &format!("{}.{}", str_field(value, "server"), str_field(value, "tool")),
                100,
            ),
            failed,
        },
        "collab_tool_call" => Item::Tool { name: bounded_field(value, "tool", 100), failed },
        "web_search" => Item::Search(bounded_field(value, "query", MAX_TEXT)),
        "todo_list" => Item::Plan(parse_plan(last_field(value, "items"))),
        "error" => Item::Warning(bounded_field(value, "message", MAX_TEXT)),
        other => Item::UnknownType(text_format::one_line(other, 60)),
    };
    CodexEvent::Item { phase, id: bounded_field(value, "id", 100), item }
}

/// Returns the offset at which bytes were cut out of a command's output, and the number of these bytes. Returns `None`
/// for a line that was not truncated, whatever its fields are.
fn parse_gap(value: &Value<'_>, dropped_bytes: u64) -> Option<(usize, u64)> {
    let head_bytes = last_field(value, truncated::OUTPUT_HEAD_FIELD).as_u64();
    let offset = head_bytes.and_then(|bytes| usize::try_from(bytes).ok())?;
    let is_boundary = str_field(value, "aggregated_output").is_char_boundary(offset);
    (dropped_bytes > 0 && is_boundary).then_some((offset, dropped_bytes))
}

fn parse_files(value: &Value<'_>) -> Vec<ChangedFile> {
    let changes = value.as_array().unwrap_or_default().iter().take(MAX_LIST);
    changes
        .map(|change| ChangedFile {
            path: bounded_field(change, "path", 500),
            kind: bounded_field(change, "kind", 20),
        })
        .collect()
}

fn parse_plan(value: &Value<'_>) -> Vec<PlanItem> {
    let items = value.as_array().unwrap_or_default().iter().take(MAX_LIST);
    items
        .map(|item| PlanItem {
            text: bounded_field(item, "text", 500),
            completed: last_field(item, "completed").as_bool().unwrap_or(false),
        })
        .collect()
}

/// Returns the token usage, or `None` if no count is reported.
fn parse_usage(value: &Value<'_>) -> Option<Usage> {
    let count = |name: &str| last_field(value, name).as_u64();
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    (input.is_some() || output.is_some()).then(|| Usage {
        input_tokens: input.unwrap_or(0),
        cached_input_tokens: count("cached_input_tokens").unwrap_or(0),
        output_tokens: output.unwrap_or(0),
        reasoning_output_tokens: count("reasoning_output_tokens").unwrap_or(0),
    })
}

fn str_field<'a>(value: &'a Value<'a>, name: &str) -> &'a str {
    last_field(value, name).as_str().unwrap_or_default()
}

/// Returns the value of the last field with this name.
fn last_field<'a>(value: &'a Value<'a>, name: &str) -> &'a Value<'a> {
    let fields = value.as_object().into_iter().flat_map(ObjectAsVec::iter);
    fields.filter(|(key, _)| *key == name).last().map_or(&Value::Null, |(_, value)| value)
}

fn bounded_field(value: &Value<'_>, name: &str, max_bytes: usize) -> String {
    text_format::truncate(str_field(value, name), max_bytes)
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
