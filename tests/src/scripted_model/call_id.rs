//! Ids of tool calls. They contain the position in the script, so that the server stores no state of a thread.

use std::fmt;
use std::str::FromStr;

/// Id of one tool call: `t2c0p1n57` is turn 2, its first call, polled for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// Index of the turn in the script, from 0.
    pub turn: usize,
    /// Index of the call in the turn, from 0.
    pub call: usize,
    /// Number of the poll that waits for the call's command, from 1; 0 for the call itself.
    pub poll: usize,
    /// Number of input items of the request that the call answers. It grows with the thread, so that ids stay distinct
    /// when a resumed thread plays the same script again.
    pub nonce: usize,
}

/// Error for a text that is not a [`CallId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a call id of the scripted model")]
pub struct ForeignId;

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}c{}p{}n{}", self.turn, self.call, self.poll, self.nonce)
    }
}

impl FromStr for CallId {
    type Err = ForeignId;

    fn from_str(text: &str) -> Result<Self, ForeignId> {
        let mut rest = text;
        let mut field = |mark: char| {
            let tail = rest.strip_prefix(mark).ok_or(ForeignId)?;
            let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            rest = &tail[end..];
            tail[..end].parse().map_err(|_| ForeignId)
        };
        let id = Self { turn: field('t')?, call: field('c')?, poll: field('p')?, nonce: field('n')? };
        if rest.is_empty() { Ok(id) } else { Err(ForeignId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = CallId { turn: 12, call: 3, poll: 1, nonce: 57 };
        assert_eq!(id.to_string(), "t12c3p1n57");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_no_call_ids() {
        for text in ["", "call_1", "t1c1p1", "t1c1p1n", "tc1p1n1", "t1c1p1n1x", "t99999999999999999999c0p0n0"]
        {
            assert_eq!(text.parse::<CallId>(), Err(ForeignId), "{text}");
        }
    }
}
