//! Some lines of event logs, in the order of their ids, on their way to somebody who reads them.

/// A chunk takes no further line once it holds this many bytes: large enough that the calls around it cost little,
/// small enough that everybody who reads may have one.
const FULL: usize = 64 * 1024;

/// Lines as they are in the log, without their line breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    text: Vec<u8>,
    /// The id of each line, and where it ends in `text`.
    lines: Vec<(u64, usize)>,
    /// Whoever has read this chunk has everything up to this id.
    pub cursor: u64,
}

impl Chunk {
    /// An empty chunk for a reader that stands at `cursor`.
    pub fn new(cursor: u64) -> Self {
        Self { text: Vec::new(), lines: Vec::new(), cursor }
    }

    /// Adds a line.
    pub fn push(&mut self, id: u64, line: &[u8]) {
        self.text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        self.lines.push((id, self.text.len()));
        self.cursor = id;
    }

    /// Whether it should go out before more is added.
    pub fn is_full(&self) -> bool {
        self.text.len() >= FULL
    }

    /// Whether it has no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Its lines with their ids.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut start = 0;
        self.lines.iter().map(move |(id, end)| {
            let line = &self.text[start..*end];
            start = *end;
            (*id, line)
        })
    }
}
