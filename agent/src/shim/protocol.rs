//! Messages between agent and shim, over a private socket pair.
//!
//! Each message is a length (`u32`, little endian) followed by JSON of that length. Environment and prompt are sent in
//! a message, so the shim's arguments and environment never contain a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sandbox_check::SandboxCheck;
use crate::user::UserIds;

/// Maximum length of a message, in bytes. The largest one contains a spec of 1 MiB, each byte of which can take six
/// bytes in JSON, and the agent's environment.
pub(crate) const MAX_MESSAGE: usize = 8 * 1024 * 1024;

/// A command to run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    /// Program and arguments; the program is looked up on `env`'s PATH.
    pub(crate) argv: Vec<String>,
    /// Complete environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Working directory.
    pub(crate) cwd: String,
    /// User that the command runs as; defaults to the shim's own user.
    pub(crate) user: Option<UserIds>,
    pub(crate) stdin: String,
    /// True if the escalation begins with INT to the leader when the agent is gone.
    pub(crate) interrupt_first: bool,
    /// File with the report for the next agent, if this agent dies before the command ends; see [`super::orphan_report`].
    #[serde(rename = "testament")]
    pub(crate) orphan_report: Option<String>,
    /// Sandbox around the command.
    #[serde(default)]
    pub(crate) confine: Option<Box<SandboxLauncher>>,
}

/// Launcher of a sandbox around a command. The sandbox's own programs can't see the command's environment or arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxLauncher {
    /// Command line of the launcher, which runs a shim in the sandbox.
    pub(crate) argv: Vec<String>,
    /// Environment of the launcher.
    pub(crate) env: BTreeMap<String, String>,
    /// Properties of the sandbox that the inner shim verifies.
    #[serde(rename = "cage")]
    pub(crate) check: SandboxCheck,
}

// Implemented by hand: no environment value may get into a log.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.argv.first())
            .field("cwd", &self.cwd)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// Message from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Run this command. This is the first message to a shim.
    Run(Box<Command>),
    /// End everything. A repeated request can shorten the grace period.
    End {
        /// True to begin with INT to the leader.
        interrupt_first: bool,
        /// Time until KILL, in milliseconds.
        grace_ms: u64,
    },
    /// End the processes that are left of a command that has ended: send TERM, and KILL shortly after.
    Sweep,
    /// End this process and its descendants with TERM, then KILL, while the command goes on. Ignored if the process is
    /// not below the shim.
    Kill {
        /// Process id.
        pid: u32,
        /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
        started: u64,
        /// Time until KILL, in milliseconds.
        grace_ms: u64,
    },
    /// Run this command if the sandbox around this shim has these properties. First message to an inner shim.
    Enter(Box<Command>, SandboxCheck),
}

/// Message from the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The command runs.
    Spawned {
        /// Process id of the leader.
        pid: u32,
    },
    /// The command could not be started. This is the last message.
    SpawnFailed {
        /// Reason, in one line.
        message: String,
    },
    /// The sandbox around this shim lacks a required property, so nothing was started. This is the last message.
    NotConfined {
        /// Reason, in one line.
        message: String,
    },
    Exited {
        /// Exit code, or `None` if a signal killed the leader.
        code: Option<i32>,
        /// Signal that killed the leader.
        signal: Option<i32>,
    },
    /// No process is left, apart from the survivors. This is the last message.
    Ended {
        /// Processes that did not end by themselves: TERM or KILL was sent to them.
        killed: u32,
        /// Processes that could not be killed.
        survivors: u32,
    },
}

/// Encodes a message.
///
/// # Errors
/// `InvalidData` if the message is longer than [`MAX_MESSAGE`].
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    let length = u32::try_from(len).ok().filter(|_| len <= MAX_MESSAGE);
    let length = length.ok_or_else(|| invalid_data(format!("a message of {len} bytes is too long")))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Decoder of messages from received bytes.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds bytes as they arrive.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete message.
    ///
    /// # Errors
    /// `InvalidData` if the peer announces too long a message, or the message can't be parsed.
    pub(crate) fn next_message<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len > MAX_MESSAGE {
            return Err(invalid_data(format!("a message of {len} bytes is too long")));
        }
        let Some(body) = self.buffer.get(4..4 + len) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.buffer.drain(..4 + len);
        Ok(Some(message))
    }
}

fn invalid_data(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_decoded_in_whatever_pieces_they_arrive() {
        let sent = [Report::Spawned { pid: 7 }, Report::Ended { killed: 1, survivors: 0 }];
        let bytes: Vec<u8> = sent.iter().flat_map(|report| encode(report).unwrap()).collect();
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut reports = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(report) = decoder.next_message::<Report>().unwrap() {
                    reports.push(report);
                }
            }
            assert_eq!(reports, sent);
        }
    }

    #[test]
    fn a_message_with_a_huge_length_is_refused_at_once() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(decoder.next_message::<Request>().is_err());
    }
}
