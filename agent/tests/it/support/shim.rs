//! A shim of the real agent. The test takes the agent's place and controls the shim through their protocol.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::DEADLINE;

/// A running shim with its command. Dropping it closes the connection, as the death of an agent does.
pub(crate) struct Shim {
    child: Child,
    control: UnixStream,
    output: ChildStdout,
    /// Process id of the command's leader.
    pub(crate) leader: u32,
}

impl Shim {
    /// Starts a shim that runs a shell line.
    pub(crate) fn run(line: &str) -> Self {
        Self::run_as(&[], line, &Value::Null)
    }

    /// Like [`run`](Self::run), but `wrapper` runs the shim's command line, and the shell line runs as `user`.
    pub(crate) fn run_as(wrapper: &[&str], line: &str, user: &Value) -> Self {
        Self::run_with_requests(wrapper, line, user, &[])
    }

    /// Like [`run_as`](Self::run_as), but sends further requests together with the command, so that the shim receives
    /// all of them with one read.
    pub(crate) fn run_with_requests(wrapper: &[&str], line: &str, user: &Value, requests: &[Value]) -> Self {
        let (mut control, shim_end) = UnixStream::pair().unwrap();
        control.set_read_timeout(Some(DEADLINE)).unwrap();
        let words = [wrapper, &[super::binary(), "shim"]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::from(OwnedFd::from(shim_end)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let env = json!({"PATH": std::env::var("PATH").unwrap()});
        let run = json!({"argv": ["sh", "-c", line], "env": env, "cwd": "/", "user": user, "stdin": "",
                         "interrupt_first": false});
        let messages = [&[json!({"Run": run})], requests].concat();
        control.write_all(&messages.iter().flat_map(bytes).collect::<Vec<u8>>()).unwrap();
        let spawned = receive(&mut control);
        let leader = spawned["Spawned"]["pid"].as_u64().unwrap_or_else(|| panic!("{spawned}"));
        let output = child.stdout.take().unwrap();
        Self { child, control, output, leader: u32::try_from(leader).unwrap() }
    }

    /// Returns the process id of the shim.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Requests the end of the command and all its descendants.
    pub(crate) fn request_end(&mut self, grace: Duration) {
        send(&mut self.control, &end_request(grace));
    }

    /// Requests the end of the processes that the command left when it exited.
    pub(crate) fn request_sweep(&mut self) {
        send(&mut self.control, &json!("Sweep"));
    }

    /// Requests the immediate end of a process and its descendants.
    pub(crate) fn request_kill(&mut self, root: (u32, u64)) {
        self.request_subtree_end(root, 0);
    }

    /// Requests the end of a process and its descendants, with this many milliseconds from TERM to KILL.
    pub(crate) fn request_subtree_end(&mut self, (pid, started): (u32, u64), grace_ms: u64) {
        send(&mut self.control, &json!({"Kill": {"pid": pid, "started": started, "grace_ms": grace_ms}}));
    }

    /// Waits for the exit of the command's leader; returns the exit code as a shell shows it (128 + signal).
    pub(crate) fn wait_exit(&mut self) -> i64 {
        let report = receive(&mut self.control);
        let code = report["Exited"]["code"].as_i64();
        code.or_else(|| Some(128 + report["Exited"]["signal"].as_i64()?))
            .unwrap_or_else(|| panic!("{report}"))
    }

    /// Waits for the end of all processes; returns how many did not end by themselves, and how many survived.
    pub(crate) fn wait_end(&mut self) -> (u64, u64) {
        let report = receive(&mut self.control);
        let ended = &report["Ended"];
        let counts = ended["killed"].as_u64().zip(ended["survivors"].as_u64());
        counts.unwrap_or_else(|| panic!("{report}"))
    }

    /// Reads the next line that the command writes.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// Returns the request for the end of the command and all its descendants.
pub(crate) fn end_request(grace: Duration) -> Value {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap();
    json!({"End": {"interrupt_first": false, "grace_ms": grace_ms}})
}

fn bytes(message: &Value) -> Vec<u8> {
    let body = message.to_string();
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn send(control: &mut UnixStream, message: &Value) {
    control.write_all(&bytes(message)).unwrap();
}

fn receive(control: &mut UnixStream) -> Value {
    let mut len = [0; 4];
    control.read_exact(&mut len).unwrap();
    let mut body = vec![0; u32::from_le_bytes(len) as usize];
    control.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// Returns the id and the start time of a process. Together they never identify another process.
pub(crate) fn process_identity(pid: u32) -> (u32, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    (pid, rest.split(' ').nth(19).unwrap().parse().unwrap())
}

/// Returns the children of a process, with the letters of their states in `/proc`.
pub(crate) fn children(pid: u32) -> Vec<(u32, char)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let children = entries.filter_map(|entry| {
        let child = entry.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()? == pid.to_string()).then_some((child, state))
    });
    children.collect()
}
