//! A line of `codex exec --json` as an event. Pure and lenient.
//!
//! Nothing that Codex prints is an error: what is not known is kept as [`CodexEvent::Unknown`] and counted by whoever
//! reads it. Keys may come twice (`web_search` items have two ids): the last one counts.

use common::event::{ChangedFile, MAX_LIST, MAX_TEXT, PlanItem, Usage};
use common::text;
use serde_json_borrow::{ObjectAsVec, Value};

use super::cut;
use super::lines::Line;

/// An event of Codex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CodexEvent {
    /// A thread began, or was taken up again.
    ThreadStarted {
        /// Its id.
        id: String,
    },
    /// A turn began.
    TurnStarted,
    /// The turn is over.
    TurnCompleted {
        /// Tokens of the whole thread, where it tells them.
        usage: Option<Usage>,
    },
    /// The turn is over, and failed.
    TurnFailed {
        /// Why.
        message: String,
    },
    /// A retry, or what a failed turn is going to say.
    Error {
        /// What.
        message: String,
    },
    /// An item of the turn.
    Item {
        /// How far it is.
        phase: Phase,
        /// Its id, unique in the process.
        id: String,
        /// What it is.
        item: Item,
    },
    /// Anything else.
    Unknown {
        /// Its type, or what stands in its place.
        what: String,
    },
}

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It began.
    Started,
    /// It changed.
    Updated,
    /// It is over.
    Completed,
}

/// An item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A summary of what the model thinks.
    Reasoning(String),
    /// What the model says.
    Message(String),
    /// A command.
    Command {
        /// Its command line, wrapped in a shell as Codex runs it.
        command: String,
        /// What it printed: all of it, at its end.
        output: String,
        /// Where in it something is missing, and how many bytes of the line that is.
        gap: Option<(usize, u64)>,
        /// Its exit code, at its end.
        exit_code: Option<i32>,
        /// Whether Codex calls it failed.
        failed: bool,
    },
    /// Changed files.
    Files {
        /// Which.
        files: Vec<ChangedFile>,
        /// Whether that failed.
        failed: bool,
    },
    /// A call of a tool or of another agent.
    Tool {
        /// Its name for people.
        name: String,
        /// Whether it failed.
        failed: bool,
    },
    /// A web search.
    Search(String),
    /// The plan.
    Plan(Vec<PlanItem>),
    /// A warning.
    Warning(String),
    /// A type that is not known.
    Other(String),
}

/// Reads a line; none for a blank one.
pub(crate) fn parse(line: &Line) -> Option<CodexEvent> {
    let found = match line {
        Line::Whole(bytes) if bytes.trim_ascii().is_empty() => return None,
        Line::Whole(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let value: Result<Value<'_>, _> = serde_json::from_str(text.trim_start_matches('\u{feff}'));
            value.ok().map(|value| event(&value, 0))
        }
        Line::Cut { head, tail, dropped } => {
            cut::repair(head, tail).map(|value| event(&Value::from(&value), *dropped))
        }
    };
    Some(found.unwrap_or_else(|| CodexEvent::Unknown { what: "a line that is no JSON".to_owned() }))
}

fn event(value: &Value<'_>, dropped: u64) -> CodexEvent {
    match str_of(value, "type") {
        "thread.started" => CodexEvent::ThreadStarted { id: owned(value, "thread_id", 100) },
        "turn.started" => CodexEvent::TurnStarted,
        "turn.completed" => CodexEvent::TurnCompleted { usage: usage(field(value, "usage")) },
        "turn.failed" => {
            CodexEvent::TurnFailed { message: owned(field(value, "error"), "message", MAX_TEXT) }
        }
        "error" => CodexEvent::Error { message: owned(value, "message", MAX_TEXT) },
        "item.started" => item(Phase::Started, field(value, "item"), dropped),
        "item.updated" => item(Phase::Updated, field(value, "item"), dropped),
        "item.completed" => item(Phase::Completed, field(value, "item"), dropped),
        other => CodexEvent::Unknown { what: text::one_line(other, 60) },
    }
}

fn item(phase: Phase, value: &Value<'_>, dropped: u64) -> CodexEvent {
    let failed = matches!(str_of(value, "status"), "failed" | "declined");
    let item = match str_of(value, "type") {
        "reasoning" => Item::Reasoning(owned(value, "text", MAX_TEXT)),
        "agent_message" => Item::Message(str_of(value, "text").to_owned()),
        "command_execution" => Item::Command {
            command: str_of(value, "command").to_owned(),
            output: str_of(value, "aggregated_output").to_owned(),
            gap: gap(value, dropped),
            exit_code: field(value, "exit_code").as_i64().and_then(|code| i32::try_from(code).ok()),
            failed,
        },
        "file_change" => Item::Files { files: files(field(value, "changes")), failed },
        "mcp_tool_call" => Item::Tool {
            name: text::one_line(&format!("{}.{}", str_of(value, "server"), str_of(value, "tool")), 100),
            failed,
        },
        "collab_tool_call" => Item::Tool { name: owned(value, "tool", 100), failed },
        "web_search" => Item::Search(owned(value, "query", MAX_TEXT)),
        "todo_list" => Item::Plan(plan(field(value, "items"))),
        "error" => Item::Warning(owned(value, "message", MAX_TEXT)),
        other => Item::Other(text::one_line(other, 60)),
    };
    CodexEvent::Item { phase, id: owned(value, "id", 100), item }
}

/// Where the output of a command has a gap. A line that was not cut has none, whatever its fields are.
fn gap(value: &Value<'_>, dropped: u64) -> Option<(usize, u64)> {
    let at = field(value, cut::HEAD).as_u64().and_then(|at| usize::try_from(at).ok())?;
    let whole = str_of(value, "aggregated_output").is_char_boundary(at);
    (dropped > 0 && whole).then_some((at, dropped))
}

fn files(value: &Value<'_>) -> Vec<ChangedFile> {
    let changes = value.as_array().unwrap_or_default().iter().take(MAX_LIST);
    changes
        .map(|change| ChangedFile { path: owned(change, "path", 500), kind: owned(change, "kind", 20) })
        .collect()
}

fn plan(value: &Value<'_>) -> Vec<PlanItem> {
    let items = value.as_array().unwrap_or_default().iter().take(MAX_LIST);
    items
        .map(|item| PlanItem {
            text: owned(item, "text", 500),
            completed: field(item, "completed").as_bool().unwrap_or(false),
        })
        .collect()
}

/// None where no count is told: that is not zero.
fn usage(value: &Value<'_>) -> Option<Usage> {
    let count = |name: &str| field(value, name).as_u64();
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    (input.is_some() || output.is_some()).then(|| Usage {
        input_tokens: input.unwrap_or(0),
        cached_input_tokens: count("cached_input_tokens").unwrap_or(0),
        output_tokens: output.unwrap_or(0),
        reasoning_output_tokens: count("reasoning_output_tokens").unwrap_or(0),
    })
}

fn str_of<'a>(value: &'a Value<'a>, name: &str) -> &'a str {
    field(value, name).as_str().unwrap_or_default()
}

/// The last one of that name.
fn field<'a>(value: &'a Value<'a>, name: &str) -> &'a Value<'a> {
    let fields = value.as_object().into_iter().flat_map(ObjectAsVec::iter);
    fields.filter(|(key, _)| *key == name).last().map_or(&Value::Null, |(_, value)| value)
}

fn owned(value: &Value<'_>, name: &str, most: usize) -> String {
    text::truncate(str_of(value, name), most)
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
