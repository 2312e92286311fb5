//! What agent and shim say to each other, over a socket pair that only those two hold.
//!
//! Each message is a length (`u32`, little endian) and so many bytes of JSON. Environment and prompt travel here, so
//! no secret ever stands in the shim's arguments or environment.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::confine::cage::Cage;

/// Longest message, in bytes: a spec of 1 MiB, each byte of which JSON may write as six, and the agent's own
/// environment beside it.
pub(crate) const MAX_MESSAGE: usize = 8 * 1024 * 1024;

/// A user to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    /// User id.
    pub(crate) uid: u32,
    /// Group id; there are no supplementary groups.
    pub(crate) gid: u32,
}

/// What to run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    /// Program and arguments; the program is looked up on `env`'s PATH.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Working folder.
    pub(crate) cwd: String,
    /// Whom to run as; the shim's own user where none is given.
    pub(crate) user: Option<Ids>,
    /// All of its stdin.
    pub(crate) stdin: String,
    /// Whether the end begins with INT to the leader, when nobody is left to say so.
    pub(crate) interrupt_first: bool,
    /// The file that tells the next agent how the end went, should this one be gone by then; see [`super::testament`].
    pub(crate) testament: Option<String>,
    /// The sandbox around it.
    #[serde(default)]
    pub(crate) confine: Option<Box<Confine>>,
}

/// A sandbox around a command. Its own programs see nothing of the command's environment or arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confine {
    /// Launcher of the sandbox, with a shim as the program to run in it.
    pub(crate) argv: Vec<String>,
    /// The environment of what starts it.
    pub(crate) env: BTreeMap<String, String>,
    /// Properties to verify inside.
    pub(crate) cage: Cage,
}

// By hand, so that no environment value can get into a log.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.argv.first())
            .field("cwd", &self.cwd)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// From the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Run this; always the first message.
    Run(Box<Command>),
    /// End everything. Repeating it with a shorter grace hastens the end.
    End {
        /// Begin with INT to the leader.
        interrupt_first: bool,
        /// From now to KILL.
        grace_ms: u64,
    },
    /// The command has ended: end what it left behind, with TERM and, soon after, KILL.
    Sweep,
    /// End this process and all that it started, with TERM and KILL, and let the command go on. Ignored if there is no such
    /// process below the shim.
    Kill {
        /// Its process id.
        pid: u32,
        /// When it was started, in clock ticks since the machine was: field 22 of `/proc/PID/stat`.
        started: u64,
        /// From now to KILL.
        grace_ms: u64,
    },
    /// Run this where this shim is in a sandbox already, if all of that holds; the first message there.
    Enter(Box<Command>, Cage),
}

/// From the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The command runs.
    Spawned {
        /// Its leader.
        pid: u32,
    },
    /// It could not be started. The last message.
    SpawnFailed {
        /// Why, in one line.
        message: String,
    },
    /// The sandbox around this shim is not as it was asked for, and nothing was started in it. The last message.
    NotConfined {
        /// Why, in one line.
        message: String,
    },
    /// The leader exited.
    Exited {
        /// Its exit code, or none when a signal killed it.
        code: Option<i32>,
        /// The signal.
        signal: Option<i32>,
    },
    /// Nothing is left, as far as that could be reached. The last message.
    Ended {
        /// How many processes did not end by themselves: they were sent TERM or KILL.
        killed: u32,
        /// How many could not be.
        survivors: u32,
    },
}

/// The bytes of a message.
///
/// # Errors
/// `InvalidData` when it is longer than [`MAX_MESSAGE`].
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    let short = u32::try_from(len).ok().filter(|_| len <= MAX_MESSAGE);
    let short = short.ok_or_else(|| invalid(format!("a message of {len} bytes is too long")))?;
    bytes[..4].copy_from_slice(&short.to_le_bytes());
    Ok(bytes)
}

/// Puts messages together from whatever pieces arrive.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes bytes as they came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// `InvalidData` when the peer claims too long a message, or it is no such message.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len > MAX_MESSAGE {
            return Err(invalid(format!("a message of {len} bytes is too long")));
        }
        let Some(body) = self.buffer.get(4..4 + len) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.buffer.drain(..4 + len);
        Ok(Some(message))
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_through_in_any_pieces() {
        let sent = [Report::Spawned { pid: 7 }, Report::Ended { killed: 1, survivors: 0 }];
        let bytes: Vec<u8> = sent.iter().flat_map(|report| encode(report).unwrap()).collect();
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(report) = decoder.next::<Report>().unwrap() {
                    got.push(report);
                }
            }
            assert_eq!(got, sent);
        }
    }

    #[test]
    fn a_length_bomb_is_refused_before_anything_is_kept_for_it() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(decoder.next::<Request>().is_err());
    }
}
