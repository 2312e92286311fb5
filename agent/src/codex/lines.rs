//! Bytes into lines, split at `\n` only, with a bound on what is kept of each. Pure.
//!
//! Of a line over [`CAP`] its first and last [`HALF`] are kept: an item's type and id stand at its head, its exit code
//! and status at its tail, and a megabyte of some command's output between them.

use std::collections::VecDeque;

/// Most bytes kept of a line: the longest one without a command's output has a few kilobytes.
pub(crate) const CAP: usize = 64 * 1024;
/// What is kept of each end of a longer one.
const HALF: usize = CAP / 2;

/// A line without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// Both ends of one over [`CAP`].
    Cut {
        /// Its first bytes.
        head: Vec<u8>,
        /// Its last bytes.
        tail: Vec<u8>,
        /// How many between them are gone.
        dropped: u64,
    },
}

/// The line that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
    begun: bool,
}

impl Splitter {
    /// Takes bytes as they come; gives each line that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(Line)) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            self.add(&rest[..at]);
            line(self.take());
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            self.add(rest);
        }
    }

    /// The input has ended: what came behind the last line break, if anything did.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        self.begun.then(|| self.take())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.begun = true;
        let (head, rest) = bytes.split_at(bytes.len().min(HALF - self.head.len()));
        self.head.extend_from_slice(head);
        let (gone, kept) = rest.split_at(rest.len().saturating_sub(HALF));
        let over = (self.tail.len() + kept.len()).saturating_sub(HALF);
        self.tail.drain(..over);
        self.tail.extend(kept);
        self.dropped += (gone.len() + over) as u64;
    }

    fn take(&mut self) -> Line {
        self.begun = false;
        let dropped = std::mem::take(&mut self.dropped);
        let mut head = std::mem::take(&mut self.head);
        let mut tail = Vec::from(std::mem::take(&mut self.tail));
        if dropped > 0 {
            strip_return(&mut tail);
            return Line::Cut { head, tail, dropped };
        }
        head.append(&mut tail);
        strip_return(&mut head);
        Line::Whole(head)
    }
}

fn strip_return(line: &mut Vec<u8>) {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<Line> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn only_line_feeds_split_and_carriage_returns_before_them_go() {
        let input = "\u{feff}a\r\nb\u{2028}c\0\n\n\rd".as_bytes();
        let expected = ["\u{feff}a", "b\u{2028}c\0", "", "\rd"].map(|l| Line::Whole(l.as_bytes().to_vec()));
        assert_eq!(split(&[input]), expected);
    }

    #[test]
    fn an_over_long_line_keeps_both_ends_and_the_next_one_is_whole() {
        let long = [vec![b'h'; HALF], vec![b'm'; 1_000_000], vec![b't'; HALF]].concat();
        let input = [&long, b"\nnext\n".as_slice()].concat();
        let expected = [
            Line::Cut { head: vec![b'h'; HALF], tail: vec![b't'; HALF], dropped: 1_000_000 },
            Line::Whole(b"next".to_vec()),
        ];
        assert_eq!(split(&[&input]), expected);
        assert_eq!(split(&[&vec![b'x'; CAP]]), [Line::Whole(vec![b'x'; CAP])]);
    }

    proptest! {
        #[test]
        fn every_way_to_cut_the_input_gives_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            long in 0..3_usize,
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..9),
        ) {
            let mut bytes = bytes;
            bytes.extend(vec![b'x'; long * CAP / 2]);
            bytes.extend_from_slice(b"yz\nend");
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&pieces), split(&[&bytes]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(split(&single), split(&[&bytes]));
        }
    }
}
