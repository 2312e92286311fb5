//! A client of `relay mcp`, which exchanges one JSON message per line with the server's process.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::processes::OwnedChild;
use super::{PATIENCE, Site};

/// A running `relay mcp`, and the test's client of it.
#[derive(Debug)]
pub struct McpClient {
    child: OwnedChild,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Messages that were received and not read yet, by id.
    unread: HashMap<u64, Value>,
    last_id: u64,
}

impl McpClient {
    /// Starts `relay mcp` in a site's root and initializes the protocol.
    pub fn start(site: &Site) -> Self {
        let mut mcp = Self::without_handshake(&mut site.command(&["mcp"]));
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {},
                           "clientInfo": {"name": "test", "version": "1"}});
        let id = mcp.send_request("initialize", &params);
        let answer = mcp.answer(id);
        assert_eq!(answer["result"]["serverInfo"]["name"], "relay", "{answer}");
        mcp.send_line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        mcp
    }

    /// Starts the server with a given command, and sends nothing.
    pub fn without_handshake(command: &mut Command) -> Self {
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
        Self { child: OwnedChild(child), stdin, lines, unread: HashMap::new(), last_id: 0 }
    }

    /// Returns the server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line verbatim.
    pub fn send_line(&mut self, line: &str) {
        let Some(stdin) = &mut self.stdin else { panic!("stdin is closed") };
        let sent = stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush());
        sent.unwrap_or_else(|e| panic!("{e}"));
    }

    /// Sends a request and returns its id.
    pub fn send_request(&mut self, method: &str, params: &Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    /// Sends a tool call and returns the id of the request.
    pub fn start_call(&mut self, tool: &str, arguments: &Value) -> u64 {
        self.send_request("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// Calls a tool and returns its result.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let id = self.start_call(tool, arguments);
        let mut answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{tool}: {answer}");
        answer["result"].take()
    }

    /// Waits for the answer to the request with this id; keeps other answers for later calls.
    pub fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.unread.remove(&id) {
                return answer;
            }
            let next = self.next_message();
            match next["id"].as_u64() {
                Some(other) => drop(self.unread.insert(other, next)),
                None => panic!("a message without an id: {next}"),
            }
        }
    }

    /// Waits for the next message.
    pub fn next_message(&mut self) -> Value {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no answer: {e}"))
    }

    /// Returns true if a message arrives within `time`; the message is kept for [`McpClient::answer`].
    pub fn receives_message_within(&mut self, time: Duration) -> bool {
        let Ok(next) = self.lines.recv_timeout(time) else { return false };
        self.unread.insert(next["id"].as_u64().unwrap_or_default(), next);
        true
    }

    /// Closes the server's stdin, waits until the server ends, and returns the exit code.
    pub fn close(mut self) -> Option<i32> {
        drop(self.stdin.take());
        super::until("relay mcp ends with its stdin", || self.child.try_wait().ok().flatten()).code()
    }
}
