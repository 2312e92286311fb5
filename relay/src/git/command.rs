//! Calls of git with a clean environment, safe settings, a time limit and bounded output.
//!
//! Git gets only `PATH` from relay's environment, no system or user configuration (except to list it:
//! [`Git::with_person_config`]), no terminal, and settings that switch off every program that a repository could name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::GitError;

/// Time limit of a query, which only reads a few files.
pub(super) const QUERY_LIMIT: Duration = Duration::from_secs(30);
/// Time limit of a command that reads or writes many objects or files.
pub(super) const WORK_LIMIT: Duration = Duration::from_secs(600);
/// Maximum length of a call's output, in bytes. The listing of a million files with long paths fits.
const MAX_OUTPUT_LENGTH: u64 = 256 << 20;
/// Maximum length of the messages of git that are kept, in bytes; the rest is dropped.
const MAX_MESSAGES_LENGTH: u64 = 256 << 10;
/// Maximum wait for remaining output after git has ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Settings of every call, which override those of a repository.
const SETTINGS: [&str; 10] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.logAllRefUpdates=false",
    "core.warnAmbiguousRefs=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "submodule.recurse=false",
];

/// Environment of every call, beside `PATH`.
const ENVIRONMENT: [(&str, &str); 14] = [
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "false"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    // No protocol has the name `none`, so none is allowed. The variable overrides a repository's own settings.
    ("GIT_ALLOW_PROTOCOL", "none"),
    ("GIT_FLUSH", "1"),
];

/// Author and committer of commits that relay makes.
const IDENTITY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "relay"),
    ("GIT_AUTHOR_EMAIL", "relay@relay.invalid"),
    ("GIT_COMMITTER_NAME", "relay"),
    ("GIT_COMMITTER_EMAIL", "relay@relay.invalid"),
];

/// A call of git.
#[derive(Debug)]
pub(super) struct Git {
    command: Command,
    subcommand: String,
    limit: Duration,
    input: Vec<u8>,
    input_file: Option<File>,
    output_file: Option<File>,
}

/// Output of a call of git.
#[derive(Debug)]
pub(super) struct GitOutput {
    /// Exit code.
    pub(super) code: i32,
    /// Bytes that git wrote to stdout, unless stdout was a file.
    pub(super) stdout: Vec<u8>,
    /// Bytes that git wrote to stderr.
    pub(super) messages: Vec<u8>,
}

impl Git {
    /// Prepares a call on the repository with this git folder.
    pub(super) fn new(git_dir: &Path, subcommand: &str) -> Self {
        let mut command = Command::new("git");
        command.env_clear().current_dir("/").process_group(0);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(ENVIRONMENT).envs(IDENTITY).env("GIT_DIR", git_dir);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(["--no-pager", subcommand]);
        Self {
            command,
            subcommand: subcommand.to_owned(),
            limit: QUERY_LIMIT,
            input: Vec::new(),
            input_file: None,
            output_file: None,
        }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(super) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Lets git read the settings of the person who runs relay, and of the system. Only for calls that list settings.
    pub(super) fn with_person_config(mut self) -> Self {
        for name in ["GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_GLOBAL"] {
            self.command.env_remove(name);
        }
        for name in
            ["HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"]
        {
            if let Some(value) = std::env::var_os(name) {
                self.command.env(name, value);
            }
        }
        self
    }

    /// Sets the folder that the call works in.
    pub(super) fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Sets the time limit.
    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the input.
    pub(super) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Uses a file as input.
    pub(super) fn input_file(mut self, file: File) -> Self {
        self.input_file = Some(file);
        self
    }

    /// Writes the output to a file.
    pub(super) fn output_file(mut self, file: File) -> Self {
        self.output_file = Some(file);
        self
    }

    /// Returns the command, for a caller that connects the command's streams itself.
    pub(super) fn into_command(self) -> Command {
        self.command
    }

    /// Runs git.
    ///
    /// # Errors
    /// Git can't be run, takes too long, is killed, or writes too much.
    pub(super) fn run(mut self) -> Result<GitOutput, GitError> {
        let stdin = match self.input_file.take() {
            Some(file) => Stdio::from(file),
            None if self.input.is_empty() => Stdio::null(),
            None => Stdio::piped(),
        };
        let stdout = self.output_file.take().map_or_else(Stdio::piped, Stdio::from);
        self.command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|e| git_run_error(&e))?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = std::mem::take(&mut self.input);
            // A failed write is ignored: if git ends early, its message is more useful than the error of the pipe.
            thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = read_in_thread(child.stdout.take(), MAX_OUTPUT_LENGTH);
        let messages = read_in_thread(child.stderr.take(), MAX_MESSAGES_LENGTH);
        let process_group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let Ok(status) = wait_in_thread(child).recv_timeout(self.limit) else {
            if let Some(process_group) = process_group {
                let _ = kill_process_group(process_group, Signal::KILL);
            }
            let seconds = self.limit.as_secs();
            return Err(GitError::Failed(format!(
                "git {} took longer than {seconds} s and was ended",
                self.subcommand
            )));
        };
        self.finish(status.map_err(|e| git_run_error(&e))?, &stdout, &messages)
    }

    fn finish(
        &self,
        status: ExitStatus,
        stdout: &Receiver<Vec<u8>>,
        messages: &Receiver<Vec<u8>>,
    ) -> Result<GitOutput, GitError> {
        let stdout = stdout.recv_timeout(DRAIN_LIMIT).unwrap_or_default();
        let messages = messages.recv_timeout(DRAIN_LIMIT).unwrap_or_default();
        if stdout.len() as u64 > MAX_OUTPUT_LENGTH {
            return Err(GitError::Failed(format!(
                "git {} printed more than {} MiB",
                self.subcommand,
                MAX_OUTPUT_LENGTH >> 20
            )));
        }
        match (status.code(), status.signal()) {
            (Some(code), _) => Ok(GitOutput { code, stdout, messages }),
            (None, signal) => Err(GitError::Failed(format!(
                "git {} was ended by signal {}",
                self.subcommand,
                signal.unwrap_or_default()
            ))),
        }
    }

    /// Runs git and returns its output if it succeeds.
    ///
    /// # Errors
    /// The errors of [`Git::run`], and git's own message if it fails.
    pub(super) fn output(self) -> Result<Vec<u8>, GitError> {
        let subcommand = self.subcommand.clone();
        let output = self.run()?;
        if output.code == 0 { Ok(output.stdout) } else { Err(output.error(&subcommand)) }
    }

    /// Runs git and returns its output as text, without line breaks at the end.
    ///
    /// # Errors
    /// The errors of [`Git::output`], and output that is not UTF-8.
    pub(super) fn text(self) -> Result<String, GitError> {
        let subcommand = self.subcommand.clone();
        let text = String::from_utf8(self.output()?)
            .map_err(|_| GitError::Failed(format!("git {subcommand} printed text that is not UTF-8")))?;
        Ok(text.trim_end_matches('\n').to_owned())
    }
}

impl GitOutput {
    /// Returns the error of a failed call: the line of git's messages that names the cause.
    pub(super) fn error(&self, subcommand: &str) -> GitError {
        GitError::Failed(format!("git {subcommand}: {}", self.message()))
    }

    /// Returns the line of git's messages that names the cause: the first error, else the last line.
    pub(super) fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.messages);
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let cause = lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        let line = cause.or_else(|| lines().next_back()).unwrap_or("no message");
        let line = line.trim_start_matches("fatal: ").trim_start_matches("error: ");
        common::text_format::one_line(line, 300)
    }
}

/// Returns the path that these bytes name.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// Splits output into its fields, each of which ends with a NUL byte.
pub(super) fn nul_fields(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    output.split(|byte| *byte == 0).filter(|field| !field.is_empty())
}

/// Joins paths for git's input, each ended by a NUL byte.
pub(super) fn nul_joined<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<u8> {
    let mut input = Vec::new();
    for path in paths {
        input.extend_from_slice(path.as_os_str().as_bytes());
        input.push(0);
    }
    input
}

fn git_run_error(error: &io::Error) -> GitError {
    if error.kind() == io::ErrorKind::NotFound {
        return GitError::refused("git is not installed (not found on PATH): install it, or use --in-place");
    }
    GitError::Failed(format!("git can't be run: {error}"))
}

fn wait_in_thread(mut child: Child) -> Receiver<io::Result<ExitStatus>> {
    let (sender, status) = channel();
    thread::spawn(move || sender.send(child.wait()));
    status
}

/// Reads a pipe to its end. Returns at most `max_bytes` and one more byte, by which the caller detects a longer output.
fn read_in_thread(pipe: Option<impl Read + Send + 'static>, max_bytes: u64) -> Receiver<Vec<u8>> {
    let (sender, bytes) = channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        if let Some(mut pipe) = pipe {
            // Output before a read error still counts.
            let _ = (&mut pipe).take(max_bytes + 1).read_to_end(&mut output);
            let _ = sender.send(output);
            let _ = io::copy(&mut pipe, &mut io::sink());
        } else {
            let _ = sender.send(output);
        }
    });
    bytes
}
