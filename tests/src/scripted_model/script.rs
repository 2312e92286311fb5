//! Scripts: what the model says, turn by turn, and how that is written down.
//!
//! A script file is JSON: `{"name": "…", "turns": [TURN, …]}`; without a name the file's stem is the name. A turn is
//! either an answer or a fault:
//!
//! | key | meaning |
//! |---|---|
//! | `delay_ms` | wait before answering (both kinds) |
//! | `repeat` | play this turn so many times (both kinds; default 1) |
//! | `reasoning`, `message` | texts; a turn with a message and no call ends the worker's turn |
//! | `commands` | `[{"cmd", "yield_time_ms", "workdir", "background"}]`, one parallel `exec_command` each |
//! | `plan` | `[{"step", "status"}]`, an `update_plan` call |
//! | `search` | the query of a `tool_search` call: tools of MCP servers are found that way |
//! | `tools` | `[{"server", "name", "arguments"}]`: a call of a tool of an MCP server each |
//! | `patch` | the text of an `apply_patch` call |
//! | `deltas` | `{"count", "every_ms"}`: the answer is preceded by so many pieces of text, at that distance |
//! | `usage` | `{"input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"}` |
//! | `hang` | `true`: take the request and never answer |
//! | `stall_stream` | `true`: half a stream, then nothing more |
//! | `disconnect` | `true`: half a stream, then the connection breaks |
//! | `http_error` | `{"status", "body"}` instead of a stream |
//! | `failed` | `{"code", "message"}`: a stream that ends in `response.failed` |
//! | `times` | a fault is met by so many requests of a thread, then the next turn plays (default: for ever) |

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod raw;
mod set;

pub use set::Scripts;

/// The script that plays when a request names none.
pub const DEFAULT: &str = "default";

/// The longest wait that `exec_command` grants, and so the default: fewer polls disturb a measurement less.
pub const MAX_YIELD_MS: u64 = 30_000;

/// One script.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// What requests call it by.
    pub name: String,
    /// What is played, in order, repeats already written out.
    pub turns: Vec<Turn>,
}

/// One answer of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// How long the model thinks before the first byte.
    pub delay: Duration,
    /// What happens then.
    pub act: Act,
}

/// What a turn does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A whole, healthy stream.
    Answer(Answer),
    /// Something that goes wrong.
    Fault {
        /// What goes wrong.
        fault: Fault,
        /// How many requests of a thread meet it before the next turn plays; `None`: all of them.
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
    /// Tool calls, handed out at once.
    pub calls: Vec<Call>,
    /// The pieces of text that come before all that.
    pub deltas: Deltas,
    /// What the turn is said to have cost.
    pub usage: Usage,
}

/// Pieces of a text that is being written; without any, the answer comes at once.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Deltas {
    /// How many.
    pub count: u32,
    /// The wait before each, in milliseconds.
    #[serde(default)]
    pub every_ms: u64,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `exec_command`.
    Command(Command),
    /// `update_plan`; Codex has this tool only when it is configured (see [`codex_home`](super::codex_home)).
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
    /// The server's name in Codex's configuration.
    pub server: String,
    /// The tool.
    pub name: String,
    /// Its input.
    #[serde(default)]
    pub arguments: Value,
}

/// A command to run.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The command line, for the worker's shell.
    pub cmd: String,
    /// How long the call waits for the end, in milliseconds (250 to 30,000).
    #[serde(default = "max_yield")]
    pub yield_time_ms: u64,
    /// Where it runs; the worker's folder if absent.
    #[serde(default)]
    pub workdir: Option<String>,
    /// Leave it running when it outlives its yield time, instead of polling until it ends.
    #[serde(default)]
    pub background: bool,
}

/// One line of a plan.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// What is to be done.
    pub step: String,
    /// `pending`, `in_progress` or `completed`.
    pub status: String,
}

/// What can go wrong with a model server.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The request is taken and never answered.
    Hang,
    /// A stream that begins well and then says nothing more, open for ever.
    StallStream,
    /// A stream whose connection breaks in the middle.
    Disconnect,
    /// An HTTP error instead of a stream. A text is sent as it is, anything else as JSON.
    HttpError {
        /// 400 to 599.
        status: u16,
        /// The response's body.
        body: Value,
    },
    /// A stream that ends in `response.failed`.
    Failed {
        /// For example `server_error` or `context_length_exceeded`.
        code: String,
        /// The text beside it.
        message: String,
    },
}

/// Token counts of one answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u64,
    /// How many of them came from the cache.
    pub cached_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// How many of them were reasoning.
    pub reasoning_tokens: u64,
}

/// Four different numbers, so that a mix-up shows in a test.
impl Default for Usage {
    fn default() -> Self {
        Self { input_tokens: 100, cached_tokens: 10, output_tokens: 20, reasoning_tokens: 5 }
    }
}

/// Why a script can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file or folder can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no JSON of the right shape.
    #[error("script {name}: {source}")]
    Parse {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A turn contradicts itself.
    #[error("script {name}, turn {turn}: {why}")]
    Turn {
        /// The script's name.
        name: String,
        /// Index of the turn as written, from 0.
        turn: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Script {
    /// An empty script, to be filled by [`run`](Self::run), [`say`](Self::say) and [`then`](Self::then).
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

    /// Adds a turn that says something and ends the worker's turn.
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

    /// Adds a fault that every request meets.
    #[must_use]
    pub fn fault(self, fault: Fault) -> Self {
        self.then(Act::Fault { fault, times: None })
    }

    /// Reads a script's JSON; `name` is used if the text holds none.
    ///
    /// # Errors
    /// The text is not of the right shape, or a turn contradicts itself.
    pub fn parse(name: &str, json: &str) -> Result<Self, ScriptError> {
        raw::parse(name, json)
    }

    /// Reads a script file.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse), or the file can't be read.
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
