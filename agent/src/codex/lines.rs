//! Splitter of bytes into lines, at `\n` only, with a maximum length for each line. Pure.
//!
//! A line over [`MAX_LINE`] is truncated in the middle: its first and last [`HALF_LINE`] bytes are kept. The beginning
//! has the type and id of the item, the end its exit code and status. The bytes between these ends are command output.

use std::collections::VecDeque;

/// Maximum number of bytes kept of a line. A line without a command's output has a few kilobytes at most.
pub(crate) const MAX_LINE: usize = 64 * 1024;
/// Number of bytes kept of each end of a longer line.
const HALF_LINE: usize = MAX_LINE / 2;

/// A line without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// The complete line.
    Whole(Vec<u8>),
    /// Both ends of a line over [`MAX_LINE`].
    Truncated {
        /// First bytes of the line.
        head: Vec<u8>,
        /// Last bytes of the line.
        tail: Vec<u8>,
        /// Number of bytes dropped between `head` and `tail`.
        dropped_bytes: u64,
    },
}

/// Splitter of bytes into lines, with the line that is being assembled.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped_bytes: u64,
    has_partial_line: bool,
}

impl LineSplitter {
    /// Adds bytes; calls `on_line` for each line that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], mut on_line: impl FnMut(Line)) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            self.add_bytes(&rest[..at]);
            on_line(self.take_line());
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            self.add_bytes(rest);
        }
    }

    /// Ends the input; returns the text after the last line break, if there is any.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        self.has_partial_line.then(|| self.take_line())
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.has_partial_line = true;
        let (head, rest) = bytes.split_at(bytes.len().min(HALF_LINE - self.head.len()));
        self.head.extend_from_slice(head);
        let (dropped, kept) = rest.split_at(rest.len().saturating_sub(HALF_LINE));
        let excess = (self.tail.len() + kept.len()).saturating_sub(HALF_LINE);
        self.tail.drain(..excess);
        self.tail.extend(kept);
        self.dropped_bytes += (dropped.len() + excess) as u64;
    }

    fn take_line(&mut self) -> Line {
        self.has_partial_line = false;
        let dropped_bytes = std::mem::take(&mut self.dropped_bytes);
        let mut head = std::mem::take(&mut self.head);
        let mut tail = Vec::from(std::mem::take(&mut self.tail));
        if dropped_bytes > 0 {
            strip_carriage_return(&mut tail);
            return Line::Truncated { head, tail, dropped_bytes };
        }
        head.append(&mut tail);
        strip_carriage_return(&mut head);
        Line::Whole(head)
    }
}

fn strip_carriage_return(line: &mut Vec<u8>) {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<Line> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn only_line_feeds_split_and_carriage_returns_before_them_vanish() {
        let input = "\u{feff}a\r\nb\u{2028}c\0\n\n\rd".as_bytes();
        let expected = ["\u{feff}a", "b\u{2028}c\0", "", "\rd"].map(|l| Line::Whole(l.as_bytes().to_vec()));
        assert_eq!(split(&[input]), expected);
    }

    #[test]
    fn an_over_long_line_keeps_both_ends_and_the_next_one_is_whole() {
        let long = [vec![b'h'; HALF_LINE], vec![b'm'; 1_000_000], vec![b't'; HALF_LINE]].concat();
        let input = [&long, b"\nnext\n".as_slice()].concat();
        let expected = [
            Line::Truncated {
                head: vec![b'h'; HALF_LINE],
                tail: vec![b't'; HALF_LINE],
                dropped_bytes: 1_000_000,
            },
            Line::Whole(b"next".to_vec()),
        ];
        assert_eq!(split(&[&input]), expected);
        assert_eq!(split(&[&vec![b'x'; MAX_LINE]]), [Line::Whole(vec![b'x'; MAX_LINE])]);
    }

    proptest! {
        #[test]
        fn every_way_to_cut_the_input_gives_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            long in 0..3_usize,
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..9),
        ) {
            let mut bytes = bytes;
            bytes.extend(vec![b'x'; long * MAX_LINE / 2]);
            bytes.extend_from_slice(b"yz\nend");
            let mut offsets: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            offsets.extend([0, bytes.len()]);
            offsets.sort_unstable();
            let pieces: Vec<&[u8]> = offsets.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&pieces), split(&[&bytes]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(split(&single), split(&[&bytes]));
        }
    }
}
