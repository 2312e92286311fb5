//! A batch of event log lines, sorted by id, for a reader.

/// Minimum size of a full chunk, in bytes: large enough that few chunks are needed, and small enough for each
/// reader to hold one.
const CHUNK_SIZE: usize = 64 * 1024;

/// Batch of event log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The lines as stored in the log, without their line breaks.
    text: Vec<u8>,
    /// Id of each line, and its end offset in `text`.
    lines: Vec<(u64, usize)>,
    /// Cursor after this chunk: a reader of the chunk has every event up to this id.
    pub cursor: u64,
}

impl Chunk {
    /// Creates an empty chunk for a reader whose cursor is at `cursor`.
    pub fn new(cursor: u64) -> Self {
        Self { text: Vec::new(), lines: Vec::new(), cursor }
    }

    /// Adds a line of the log, and moves the cursor to the line's event.
    pub fn push(&mut self, id: u64, line: &[u8]) {
        self.text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        self.lines.push((id, self.text.len()));
        self.cursor = id;
    }

    /// Returns true if the chunk should be sent before more is added.
    pub fn is_full(&self) -> bool {
        self.text.len() >= CHUNK_SIZE
    }

    /// Returns true if the chunk has no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the lines with their ids.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut start = 0;
        self.lines.iter().map(move |(id, end)| {
            let line = &self.text[start..*end];
            start = *end;
            (*id, line)
        })
    }
}
