//! Scripts: the responses of the model, turn by turn, and their file format.
//!
//! A script file is JSON: `{"name": "…", "turns": [TURN, …]}`; without a name the file's stem is the name. A turn is
//! either an answer or a fault:
//!
//! | key | meaning |
//! |---|---|
//! | `delay_ms` | delay before the response, of an answer or a fault |
//! | `repeat` | number of times that the turn is played, of an answer or a fault (default: 1) |
//! | `reasoning`, `message` | texts; a turn with a message and no call ends the worker's turn |
//! | `commands` | `[{"cmd", "yield_time_ms", "workdir", "background"}]`, one parallel `exec_command` each |
//! | `plan` | `[{"step", "status"}]`, an `update_plan` call |
//! | `search` | query of a `tool_search` call, which finds tools of MCP servers |
//! | `tools` | `[{"server", "name", "arguments"}]`: one call of an MCP server's tool each |
//! | `patch` | the text of an `apply_patch` call |
//! | `deltas` | `{"count", "every_ms"}`: number and interval of pieces of text that precede the answer |
//! | `usage` | `{"input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"}` |
//! | `hang` | `true`: accept the request and never answer |
//! | `stall_stream` | `true`: half a stream, then nothing more |
//! | `disconnect` | `true`: half a stream, then the connection breaks |
//! | `http_error` | `{"status", "body"}`: an HTTP error instead of a stream |
//! | `failed` | `{"code", "message"}`: a stream that ends in `response.failed` |
//! | `times` | number of requests of a thread that get the fault before the next turn plays (default: all) |

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod raw;
mod set;

pub use set::Scripts;

/// The script that plays if a request names none.
pub const DEFAULT: &str = "default";

/// Maximum and default time that `exec_command` waits for a command, in milliseconds.
pub const MAX_YIELD_MS: u64 = 30_000;

/// A script: the responses of the model, turn by turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Name used in requests.
    pub name: String,
    /// Turns in order, with repeats expanded.
    pub turns: Vec<Turn>,
}

/// One response of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Delay before the first byte.
    pub delay: Duration,
    /// Answer or fault after the delay.
    pub act: Act,
}

/// Content of a turn: an answer or a fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A complete, healthy stream.
    Answer(Answer),
    /// A failure.
    Fault {
        /// Kind of failure.
        fault: Fault,
        /// Number of requests of a thread that get the fault before the next turn plays; `None`: all of them.
        times: Option<usize>,
    },
}

/// A healthy answer. Without any call it ends the worker's turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// A summary of reasoning.
    pub reasoning: Option<String>,
    /// A message to the user.
    pub message: Option<String>,
    /// Tool calls, sent together.
    pub calls: Vec<Call>,
    /// Pieces of text that precede the answer.
    pub deltas: Deltas,
    /// Reported token usage.
    pub usage: Usage,
}

/// Pieces of text that precede an answer; without any, the answer is sent at once.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Deltas {
    /// Number of pieces.
    pub count: u32,
    /// Delay before each piece, in milliseconds.
    #[serde(default)]
    pub every_ms: u64,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `exec_command`.
    Command(Command),
    /// `update_plan`; Codex offers this tool only if configured (see [`write_codex_home`](super::write_codex_home)).
    Plan(Vec<PlanStep>),
    /// `apply_patch`, in its own format.
    Patch(String),
    /// `tool_search`.
    Search(String),
    /// A tool of an MCP server.
    Tool(ToolCall),
}

/// A call of a tool of an MCP server.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Name of the server in Codex's configuration.
    pub server: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments of the call.
    #[serde(default)]
    pub arguments: Value,
}

/// A command to run.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The command line, for the worker's shell.
    pub cmd: String,
    /// Longest time that the call waits for the end of the command, in milliseconds (250 to 30,000).
    #[serde(default = "max_yield")]
    pub yield_time_ms: u64,
    /// Working folder; defaults to the worker's.
    #[serde(default)]
    pub workdir: Option<String>,
    /// True to leave the command running after its yield time instead of polling until it ends.
    #[serde(default)]
    pub background: bool,
}

/// One line of a plan.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// Text of the line.
    pub step: String,
    /// `pending`, `in_progress` or `completed`.
    pub status: String,
}

/// Failure of a model server.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The request is accepted and never answered.
    Hang,
    /// A stream that begins normally, then sends nothing more and stays open forever.
    StallStream,
    /// A stream whose connection breaks in the middle.
    Disconnect,
    /// An HTTP error instead of a stream. A text is sent verbatim, anything else as JSON.
    HttpError {
        /// Status code, 400 to 599.
        status: u16,
        /// Body of the response.
        body: Value,
    },
    /// A stream that ends in `response.failed`.
    Failed {
        /// Error code, for example `server_error` or `context_length_exceeded`.
        code: String,
        /// Error message.
        message: String,
    },
}

/// Token counts of one answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u64,
    /// Input tokens read from the cache.
    pub cached_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// Output tokens used for reasoning.
    pub reasoning_tokens: u64,
}

/// Uses four different numbers, so that tests detect mix-ups.
impl Default for Usage {
    fn default() -> Self {
        Self { input_tokens: 100, cached_tokens: 10, output_tokens: 20, reasoning_tokens: 5 }
    }
}

/// Error for a script that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file or folder can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Path of the file or folder.
        path: PathBuf,
        /// Underlying error.
        source: std::io::Error,
    },
    /// The text is not JSON of the expected shape.
    #[error("script {name}: {source}")]
    Parse {
        /// Name of the script.
        name: String,
        /// Underlying error.
        source: serde_json::Error,
    },
    /// A turn has keys that contradict each other, or a value out of range.
    #[error("script {name}, turn {turn}: {why}")]
    Turn {
        /// Name of the script.
        name: String,
        /// Index of the turn as written, from 0.
        turn: usize,
        /// Description of the mistake.
        why: &'static str,
    },
}

impl Script {
    /// Creates an empty script, to be filled with [`run`](Self::run), [`say`](Self::say) and [`then`](Self::then).
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), turns: Vec::new() }
    }

    /// Adds a turn that runs one command to its end.
    #[must_use]
    pub fn run(self, cmd: &str) -> Self {
        let command =
            Command { cmd: cmd.to_owned(), yield_time_ms: MAX_YIELD_MS, workdir: None, background: false };
        self.then(Act::Answer(Answer { calls: vec![Call::Command(command)], ..Answer::default() }))
    }

    /// Adds a turn that sends a message and ends the worker's turn.
    #[must_use]
    pub fn say(self, text: &str) -> Self {
        self.then(Act::Answer(Answer { message: Some(text.to_owned()), ..Answer::default() }))
    }

    /// Adds any turn, without delay.
    #[must_use]
    pub fn then(mut self, act: Act) -> Self {
        self.turns.push(Turn { delay: Duration::ZERO, act });
        self
    }

    /// Adds a fault that every request gets.
    #[must_use]
    pub fn fault(self, fault: Fault) -> Self {
        self.then(Act::Fault { fault, times: None })
    }

    /// Parses a script's JSON; `name` is used if the text contains none.
    pub fn parse(name: &str, json: &str) -> Result<Self, ScriptError> {
        raw::parse(name, json)
    }

    /// Reads a script file.
    pub fn load(path: &Path) -> Result<Self, ScriptError> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text =
            fs::read_to_string(path).map_err(|source| ScriptError::Read { path: path.to_owned(), source })?;
        Self::parse(&name, &text)
    }
}

fn max_yield() -> u64 {
    MAX_YIELD_MS
}
