//! Handling of a command's output. A shell's output goes to the log unchanged; Codex prints events, which are parsed.

use std::time::Duration;

use common::event::EventBody;
use jiff::Timestamp;

use super::log::JobLog;
use super::tail::Tail;
use crate::codex::lines::{Line, LineSplitter};
use crate::codex::mcp::ServerTracker;
use crate::codex::model_activity::{ActivityDetector, StderrKind};
use crate::codex::refused_commands::RefusedCommands;
use crate::codex::{Turn, event};
use crate::process::OutputSource;
use crate::steps::rules::Classification;
use crate::steps::step_table::Steps;
use crate::steps::tracker::Tracker;
use crate::transcript::Transcript;
use crate::workspace_log::LogFile;

/// Time for Codex to exit after its turn.
const EXIT_GRACE_AFTER_TURN: Duration = Duration::from_secs(10);

/// Handler of a command's output.
#[derive(Debug)]
pub(crate) enum OutputHandler {
    /// A shell that runs a setup command, a check, or the worker of a shell job.
    Shell(ShellHandler),
    Codex(Box<CodexHandler>),
}

#[derive(Debug)]
pub(crate) struct ShellHandler {
    classification: Classification,
    step: Option<u32>,
    tail: Tail,
}

#[derive(Debug, Default)]
pub(crate) struct CodexHandler {
    stdout_lines: LineSplitter,
    stderr_lines: LineSplitter,
    activity: ActivityDetector,
    mcp_servers: ServerTracker,
    refused_commands: RefusedCommands,
    tracker: Option<Tracker>,
    transcript: Transcript,
    tail: Tail,
    /// Time at which the turn ended.
    turn_ended_at: Option<Duration>,
}

impl OutputHandler {
    /// Creates the handler of a shell whose step gets this classification.
    pub(crate) fn shell(classification: Classification) -> Self {
        Self::Shell(ShellHandler { classification, step: None, tail: Tail::default() })
    }

    /// Creates the handler of Codex, which tracks the activity of the model and the MCP servers.
    pub(crate) fn codex(activity: ActivityDetector, servers: ServerTracker) -> Self {
        Self::Codex(Box::new(CodexHandler { activity, mcp_servers: servers, ..CodexHandler::default() }))
    }

    /// Handles the start of the command.
    pub(crate) fn on_spawned(&mut self, now: Duration, pid: u32, steps: &mut Steps) -> Vec<EventBody> {
        match self {
            Self::Shell(shell) => {
                let (n, event) = steps.start_process_step(now, &shell.classification, pid);
                shell.step = Some(n);
                vec![EventBody::Started { pid, thread_id: None }, event]
            }
            Self::Codex(codex) => {
                let (tracker, event) = Tracker::new(now, pid, steps);
                codex.tracker = Some(tracker);
                vec![event]
            }
        }
    }

    /// Handles output of the command.
    pub(crate) fn on_output(
        &mut self,
        now: Duration,
        source: OutputSource,
        bytes: &[u8],
        steps: &mut Steps,
        log: &mut JobLog,
    ) -> Vec<EventBody> {
        match (self, source) {
            (Self::Shell(shell), _) => {
                shell.tail.push(bytes);
                log.write(bytes);
                Vec::new()
            }
            (Self::Codex(codex), OutputSource::Stdout) => {
                log.append_file(LogFile::Codex, bytes);
                let mut lines = Vec::new();
                codex.stdout_lines.push(bytes, |line| lines.push(line));
                lines.iter().flat_map(|line| codex.on_stdout_line(now, line, steps, log)).collect()
            }
            (Self::Codex(codex), OutputSource::Stderr) => {
                let mut lines = Vec::new();
                codex.stderr_lines.push(bytes, |line| lines.push(line));
                lines.iter().filter_map(|line| codex.on_stderr_line(now, line, steps, log)).collect()
            }
        }
    }

    /// Handles the end of the output: processes an unfinished last line, and ends the step of a shell.
    pub(crate) fn on_end(
        &mut self,
        now: Duration,
        outcome: common::event::StepOutcome,
        exit_code: Option<i32>,
        steps: &mut Steps,
        log: &mut JobLog,
    ) -> Vec<EventBody> {
        match self {
            Self::Shell(shell) => {
                shell.step.map(|n| steps.finish_step(now, n, outcome, exit_code)).unwrap_or_default()
            }
            Self::Codex(codex) => {
                let last = codex.stdout_lines.finish();
                let mut events =
                    last.map(|line| codex.on_stdout_line(now, &line, steps, log)).unwrap_or_default();
                let last = codex.stderr_lines.finish();
                events.extend(last.and_then(|line| codex.on_stderr_line(now, &line, steps, log)));
                events.extend(codex.missing_servers());
                let refused = codex.refused_commands.finish();
                events.extend(refused.map(|message| EventBody::Warning { message }));
                if let Some(message) = codex.tracker.as_ref().and_then(Tracker::last_message) {
                    log.append_file(LogFile::Message, message.as_bytes());
                }
                events
            }
        }
    }

    /// Returns the time at which Codex is ended if it has not exited after its turn.
    pub(crate) fn exit_deadline(&self) -> Option<Duration> {
        match self {
            Self::Shell(_) => None,
            Self::Codex(codex) => {
                codex.turn_ended_at.map(|ended_at| ended_at.saturating_add(EXIT_GRACE_AFTER_TURN))
            }
        }
    }

    /// Returns the outcome of the turn that Codex has reported; `None` for a shell.
    pub(crate) fn turn(&self) -> Option<Turn> {
        match self {
            Self::Shell(_) => None,
            Self::Codex(codex) => codex.tracker.as_ref().and_then(Tracker::last_turn).cloned(),
        }
    }

    /// Returns the last lines of the command's output, for display.
    pub(crate) fn tail(&self) -> String {
        match self {
            Self::Shell(shell) => shell.tail.last_lines(),
            Self::Codex(codex) => codex.tail.last_lines(),
        }
    }

    /// Returns the step of a shell; `None` for Codex, which has many steps.
    pub(crate) fn step(&self) -> Option<u32> {
        match self {
            Self::Shell(shell) => shell.step,
            Self::Codex(_) => None,
        }
    }

    /// Returns the number of Codex's lines and items that were not understood.
    pub(crate) fn unknown_count(&self) -> u64 {
        match self {
            Self::Shell(_) => 0,
            Self::Codex(codex) => codex.tracker.as_ref().map_or(0, Tracker::unknown_message_count),
        }
    }
}

impl CodexHandler {
    fn on_stdout_line(
        &mut self,
        now: Duration,
        line: &Line,
        steps: &mut Steps,
        log: &mut JobLog,
    ) -> Vec<EventBody> {
        let Some(event) = event::parse(line) else { return Vec::new() };
        log.write(self.transcript.render_event(now, Timestamp::now(), &event).as_bytes());
        let Some(tracker) = &mut self.tracker else { return Vec::new() };
        let mut events = tracker.take_event(now, &event, steps);
        let warning = self.refused_commands.take_event(&event);
        events.extend(warning.map(|message| EventBody::Warning { message }));
        self.turn_ended_at = tracker.last_turn().map(|_| self.turn_ended_at.unwrap_or(now));
        events
    }

    /// Handles a line of stderr. The line is logged, unless it belongs to the trace, which contains the model's text.
    fn on_stderr_line(
        &mut self,
        now: Duration,
        line: &Line,
        steps: &mut Steps,
        log: &mut JobLog,
    ) -> Option<EventBody> {
        match (self.activity.classify(line), &mut self.tracker) {
            (StderrKind::Message, _) => {
                let text = Transcript::render_stderr_line(line);
                self.tail.push(text.as_bytes());
                log.write(text.as_bytes());
                let message = self.refused_commands.take_line(&text)?;
                return Some(EventBody::Warning { message });
            }
            (StderrKind::Activity, Some(tracker)) => tracker.on_activity(now, steps),
            (StderrKind::McpServer(event), tracker) => {
                let has_turn_ended = tracker.as_ref().is_some_and(|tracker| tracker.last_turn().is_some());
                let message = self.mcp_servers.take_event(&event, has_turn_ended)?;
                return Some(EventBody::Warning { message });
            }
            (StderrKind::Activity | StderrKind::Trace, _) => {}
        }
        None
    }

    /// Returns a warning if configured MCP servers were missing during the turn. Without the trace this can't be known.
    fn missing_servers(&mut self) -> Option<EventBody> {
        let has_turn_ended = self.tracker.as_ref().is_some_and(|tracker| tracker.last_turn().is_some());
        if !has_turn_ended || !self.activity.is_enabled() {
            return None;
        }
        self.mcp_servers.finish().map(|message| EventBody::Warning { message })
    }
}
