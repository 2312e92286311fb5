//! Sanitizer for a stream of log bytes. A chunk may end within a character, an escape or a line.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};
use common::text_format;

/// Maximum length of an incomplete line that waits for its end, in bytes. A longer line is returned in parts.
const MAX_PENDING_BYTES: usize = 64 * 1024;

/// Escape that ends all colors.
const COLOR_RESET: &str = "\u{1b}[m";

/// Converter of chunks of a log into sanitized text.
#[derive(Default)]
pub struct LogCleaner {
    /// Bytes that wait for the rest of their line or character.
    pending: Vec<u8>,
    escape_parser: Parser<DefaultCharAccumulator>,
    text: CleanText,
}

/// Text without escapes, except colors if enabled.
#[derive(Default)]
struct CleanText {
    text: String,
    keeps_colors: bool,
    /// True if a color was started on the current line.
    has_active_color: bool,
}

impl CleanText {
    fn end_color(&mut self) {
        if std::mem::take(&mut self.has_active_color) {
            self.text.push_str(COLOR_RESET);
        }
    }
}

impl Perform for CleanText {
    fn print(&mut self, c: char) {
        self.text.push_str(text_format::to_printable(c.encode_utf8(&mut [0; 4])).as_str());
    }

    fn execute(&mut self, byte: u8) {
        if byte == b'\t' {
            self.text.push(' ');
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if !self.keeps_colors || action != b'm' || !intermediates.is_empty() || ignore {
            return;
        }
        let numbers: Vec<String> =
            params.iter().map(|part| part.iter().map(u16::to_string).collect::<Vec<_>>().join(":")).collect();
        self.text.extend(["\u{1b}[", &numbers.join(";"), "m"]);
        self.has_active_color = true;
    }
}

impl LogCleaner {
    /// Creates a cleaner that keeps colors, each at most until the end of its line.
    pub fn with_colors() -> Self {
        Self { text: CleanText { keeps_colors: true, ..CleanText::default() }, ..Self::default() }
    }

    /// Returns the text of a chunk, without control characters. An incomplete character at its end waits for the next
    /// chunk.
    pub fn clean_text(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let complete_length = self.pending.len() - incomplete_tail_length(&self.pending);
        self.take_pending_text(complete_length)
    }

    /// Returns the complete lines up to the end of a chunk, without control characters. The rest waits.
    pub fn clean_lines(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let complete_length = match self.pending.iter().rposition(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if self.pending.len() > MAX_PENDING_BYTES => {
                self.pending.len() - incomplete_tail_length(&self.pending)
            }
            None => 0,
        };
        self.take_pending_text(complete_length).lines().map(str::to_owned).collect()
    }

    /// Returns the text that still waits, after the last chunk.
    pub fn remaining_text(&mut self) -> String {
        let mut rest = self.take_pending_text(self.pending.len());
        self.text.end_color();
        rest += &std::mem::take(&mut self.text.text);
        rest
    }

    fn take_pending_text(&mut self, bytes: usize) -> String {
        let rest = self.pending.split_off(bytes);
        let complete = std::mem::replace(&mut self.pending, rest);
        for &byte in String::from_utf8_lossy(&complete).as_bytes() {
            if byte == b'\n' {
                // An unterminated escape must not hide the text that follows.
                self.escape_parser = Parser::default();
                self.text.end_color();
                self.text.text.push('\n');
            } else {
                self.escape_parser.advance(&mut self.text, byte);
            }
        }
        std::mem::take(&mut self.text.text)
    }
}

/// Returns the number of bytes at the end that belong to an incomplete character.
fn incomplete_tail_length(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    match std::str::from_utf8(tail) {
        Ok(_) => 0,
        // The tail may begin inside a character, so only its last lead byte is examined.
        Err(_) => tail
            .iter()
            .rposition(|b| *b >= 0xC0)
            .filter(|&at| {
                let needed = match tail[at] {
                    0xF0.. => 4,
                    0xE0.. => 3,
                    _ => 2,
                };
                tail.len() - at < needed
            })
            .map_or(0, |at| tail.len() - at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_survive_any_split_and_escapes_are_removed() {
        let bytes = "aé€𝄞\x1b[31m\nb".as_bytes();
        for split_at in 0..=bytes.len() {
            let mut cleaner = LogCleaner::default();
            let mut text = cleaner.clean_text(&bytes[..split_at]);
            text += &cleaner.clean_text(&bytes[split_at..]);
            text += &cleaner.remaining_text();
            assert_eq!(text, "aé€𝄞\nb", "split at {split_at}");
        }
    }

    #[test]
    fn colors_stay_only_on_request_and_other_escapes_never() {
        let log = b"\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;title\x07\x1b[38;2;1;2;3mrgb\n\x1b]52;c;never ends\nnext\t\x1b[32mgreen";
        let cleaned = |mut cleaner: LogCleaner| cleaner.clean_text(log) + &cleaner.remaining_text();
        assert_eq!(cleaned(LogCleaner::default()), "red rgb\n\nnext green");
        let colored = "\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mrgb\x1b[m\n\nnext \x1b[32mgreen\x1b[m";
        assert_eq!(cleaned(LogCleaner::with_colors()), colored);
    }

    #[test]
    fn lines_are_returned_when_they_are_complete_or_too_long() {
        let mut cleaner = LogCleaner::default();
        assert_eq!(cleaner.clean_lines(b"a\nb"), ["a"]);
        assert_eq!(cleaner.clean_lines(b"c\n"), ["bc"]);
        assert_eq!(
            cleaner.clean_lines(&vec![b'x'; MAX_PENDING_BYTES + 1]).concat().len(),
            MAX_PENDING_BYTES + 1
        );
        assert_eq!(cleaner.remaining_text(), "");
    }

    #[test]
    fn invalid_utf_8_becomes_replacement_characters() {
        let mut cleaner = LogCleaner::default();
        let text = cleaner.clean_text(b"a\xff\xfeb\xc3") + &cleaner.remaining_text();
        assert_eq!(text, "a\u{fffd}\u{fffd}b\u{fffd}");
    }
}
