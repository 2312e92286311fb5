//! Finds the data of server-sent events in bytes that arrive in pieces (pure). Nothing is kept of the events.
//!
//! ```text
//!  NameOf ──"data", colon─► Value ──end of line─► NameOf      a blank line ends the event
//!     └──another name─► Skipped ──end of line────────┘
//! ```

/// Name of the field with an event's data.
const DATA: &[u8] = b"data";

/// A piece of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Data of the current event, in the order in which they arrived. The lines of an event are separated by `\n`.
    Data(&'a [u8]),
    /// End of the current event.
    End,
}

/// Position in the current line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of the field's name were read, and are the beginning of `data`.
    Name(usize),
    /// After the colon: one space does not belong to the value.
    Colon,
    Value,
    Skipped,
}

/// Splitter of an event stream.
#[derive(Debug)]
pub(super) struct EventStream {
    line: Line,
    /// True after `\r`, which may be the first half of a line's end.
    follows_return: bool,
    has_data: bool,
}

impl EventStream {
    /// Creates a splitter for the beginning of a stream.
    pub(super) fn new() -> Self {
        Self { line: Line::Name(0), follows_return: false, has_data: false }
    }

    /// Takes the next bytes of the stream and passes on their pieces.
    pub(super) fn feed<'a>(&mut self, mut bytes: &'a [u8], sink: &mut impl FnMut(Piece<'a>)) {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.follows_return) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let length = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
            self.take_text(&bytes[..length], sink);
            if let Some(end) = bytes.get(length) {
                self.follows_return = *end == b'\r';
                self.end_line(sink);
            }
            bytes = bytes.get(length + 1..).unwrap_or_default();
        }
    }

    /// Takes a part of a line.
    fn take_text<'a>(&mut self, mut text: &'a [u8], sink: &mut impl FnMut(Piece<'a>)) {
        while let Some(&first) = text.first() {
            match self.line {
                Line::Skipped => return,
                Line::Value => return sink(Piece::Data(text)),
                Line::Colon => {
                    self.line = Line::Value;
                    text = if first == b' ' { &text[1..] } else { text };
                }
                Line::Name(read) => {
                    self.line = match DATA.get(read) {
                        None if first == b':' => Line::Colon,
                        Some(expected) if first == *expected => Line::Name(read + 1),
                        _ => Line::Skipped,
                    };
                    text = &text[1..];
                }
            }
        }
    }

    fn end_line<'a>(&mut self, sink: &mut impl FnMut(Piece<'a>)) {
        match std::mem::replace(&mut self.line, Line::Name(0)) {
            Line::Name(0) if std::mem::take(&mut self.has_data) => sink(Piece::End),
            Line::Colon | Line::Value => {
                self.has_data = true;
                sink(Piece::Data(b"\n"));
            }
            Line::Name(_) | Line::Skipped => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the data of the events that end in the stream, which arrives in pieces of `size` bytes.
    fn events(stream: &[u8], size: usize) -> Vec<String> {
        let (mut splitter, mut open, mut events) = (EventStream::new(), Vec::new(), Vec::new());
        for chunk in stream.chunks(size) {
            splitter.feed(chunk, &mut |piece| match piece {
                Piece::Data(data) => open.extend_from_slice(data),
                Piece::End => events.push(String::from_utf8(std::mem::take(&mut open)).unwrap()),
            });
        }
        events
    }

    #[test]
    fn events_are_found_whatever_ends_their_lines() {
        let stream = "event: x\ndata: {\"a\":1}\n\n: comment\n\ndata:b\nid: 3\ndata:  c\n\n\n\
                      datax: no\ndata\nretry: 1\n\ndata: open";
        for end in ["\n", "\r\n", "\r"] {
            for size in [1, 2, 3, 1000] {
                let found = events(stream.replace('\n', end).as_bytes(), size);
                assert_eq!(found, ["{\"a\":1}\n", "b\n c\n"], "{end:?} {size}");
            }
        }
    }
}
