//! Last lines that a command wrote, for the message that explains a failure.

/// Maximum number of bytes that are kept: some lines, enough to see the cause.
const MAX_BYTES: usize = 2048;
/// Maximum number of lines that are shown.
const MAX_LINES: usize = 3;
/// Maximum number of bytes shown of a line.
const MAX_LINE: usize = 200;

/// End of a command's output.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    /// Adds output as it arrives.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(MAX_BYTES)..];
        let keep = (MAX_BYTES - new.len()).min(self.bytes.len());
        self.bytes.drain(..self.bytes.len() - keep);
        self.bytes.extend_from_slice(new);
    }

    /// Returns the last lines that are not blank, joined to one line; empty if there are none.
    pub(crate) fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<String> = text
            .lines()
            .rev()
            .map(|line| common::text_format::one_line(line, MAX_LINE))
            .filter(|line| !line.is_empty())
            .take(MAX_LINES)
            .collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_shown() {
        let mut tail = Tail::default();
        tail.push(&vec![b'x'; 1_000_000]);
        tail.push(b"\none\ntwo\n\n\x1b[31mthree\r\nfour\n");
        assert_eq!(tail.bytes.len(), MAX_BYTES);
        assert_eq!(tail.last_lines(), "two / [31mthree / four");
        assert_eq!(Tail::default().last_lines(), "");
    }
}
