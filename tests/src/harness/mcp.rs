//! `relay mcp` as a process, spoken to line by line.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{PATIENCE, Site};

/// A running server whose client is the test.
#[derive(Debug)]
pub struct Mcp {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Answers that came before somebody asked for them.
    early: HashMap<u64, Value>,
    last_id: u64,
}

impl Mcp {
    /// Starts the server in a site's root and shakes hands with it.
    ///
    /// # Panics
    /// When it does not start or doesn't answer.
    pub fn start(site: &Site) -> Self {
        let mut mcp = Self::silent(&mut site.command(&["mcp"]));
        let about = json!({"protocolVersion": "2025-06-18", "capabilities": {},
                           "clientInfo": {"name": "test", "version": "1"}});
        let id = mcp.ask("initialize", &about);
        let answer = mcp.answer(id);
        assert_eq!(answer["result"]["serverInfo"]["name"], "relay", "{answer}");
        mcp.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        mcp
    }

    /// Starts the server; nothing is said to it yet.
    ///
    /// # Panics
    /// When it does not start.
    pub fn silent(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("relay mcp: {e}"));
        let (sender, lines) = channel();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
                let line = line.unwrap_or_default();
                let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, lines, early: HashMap::new(), last_id: 0 }
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line as it is.
    ///
    /// # Panics
    /// When the server has gone.
    pub fn line(&mut self, line: &str) {
        let Some(stdin) = &mut self.stdin else { panic!("stdin is closed") };
        let sent = stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush());
        sent.unwrap_or_else(|e| panic!("{e}"));
    }

    /// Sends a request and gives its id.
    pub fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    /// Begins to call a tool and gives the request's id.
    pub fn begin(&mut self, tool: &str, arguments: &Value) -> u64 {
        self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// Calls a tool and gives its result.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let id = self.begin(tool, arguments);
        let mut answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{tool}: {answer}");
        answer["result"].take()
    }

    /// Waits for the answer to a request; others are kept.
    ///
    /// # Panics
    /// When it does not come.
    pub fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.early.remove(&id) {
                return answer;
            }
            let next = self.next_message();
            match next["id"].as_u64() {
                Some(other) => drop(self.early.insert(other, next)),
                None => panic!("an answer to nothing that was asked: {next}"),
            }
        }
    }

    /// The next message that comes.
    ///
    /// # Panics
    /// When none comes.
    pub fn next_message(&mut self) -> Value {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no answer: {e}"))
    }

    /// Whether a message comes within `time`; it is kept for [`Mcp::answer`].
    pub fn says_something_within(&mut self, time: Duration) -> bool {
        let Ok(next) = self.lines.recv_timeout(time) else { return false };
        self.early.insert(next["id"].as_u64().unwrap_or_default(), next);
        true
    }

    /// Closes stdin and gives the server's exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn close(mut self) -> Option<i32> {
        drop(self.stdin.take());
        super::until("relay mcp ends with its stdin", || self.child.try_wait().ok().flatten()).code()
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
