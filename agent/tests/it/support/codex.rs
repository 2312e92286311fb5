//! Shell scripts that take the place of Codex. The agent sees only their output and their exit.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::job::{JobSpec, Runner};

use super::Agent;

/// Shell commands that print the beginning of a thread and of a turn.
pub(crate) const BEGIN_TURN: &str =
    r#"echo '{"type":"thread.started","thread_id":"t-1"}'; echo '{"type":"turn.started"}'"#;
/// Shell command that prints the end of a turn.
pub(crate) const END_TURN: &str =
    r#"echo '{"type":"turn.completed","usage":{"input_tokens":100,"output_tokens":20}}'"#;

/// Returns a script that prints a whole turn of Codex, with the shell commands `body` in the middle.
pub(crate) fn turn(body: &str) -> String {
    format!("{BEGIN_TURN}; {}{END_TURN}", if body.is_empty() { String::new() } else { format!("{body}; ") })
}

/// Returns the line that Codex prints for a message of the model.
pub(crate) fn message_line(text: &str) -> String {
    format!(r#"{{"type":"item.completed","item":{{"id":"item_9","type":"agent_message","text":"{text}"}}}}"#)
}

/// Returns the lines that Codex prints for this many commands, one after the other.
pub(crate) fn command_lines(commands: usize) -> String {
    let mut lines = String::new();
    for n in 0..commands {
        let item =
            format!(r#""id":"item_{n}","type":"command_execution","command":"/bin/bash -lc 'echo {n}'""#);
        let begin = r#""aggregated_output":"","exit_code":null,"status":"in_progress""#;
        let end = r#""aggregated_output":"done\n","exit_code":0,"status":"completed""#;
        writeln!(lines, "{{\"type\":\"item.started\",\"item\":{{{item},{begin}}}}}").unwrap();
        writeln!(lines, "{{\"type\":\"item.completed\",\"item\":{{{item},{end}}}}}").unwrap();
    }
    lines
}

/// Returns the spec of a job whose Codex is the shell script `body`.
pub(crate) fn job_spec(agent: &Agent, job: &str, body: &str) -> JobSpec {
    let program = agent.dir.path().join(format!("codex-{}", job.replace('#', ".")));
    let version = "if [ \"$1\" = --version ]; then echo codex-cli 0.169.0; exit; fi";
    fs::write(&program, format!("#!/bin/sh\n{version}\n{body}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = agent.shell_spec(job, "say hello");
    spec.runner = Runner::Codex;
    spec.codex.program = program.display().to_string();
    spec.env.insert("CODEX_API_KEY".into(), "s3cr3t".into());
    spec
}
