//! Pieces of a log, sanitized. A piece may end in the middle of a character, an escape or a line.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};
use common::text;

/// Maximum length of a line that is held back until it is complete, in bytes; a longer line is passed on in parts.
const MAX_LINE: usize = 64 * 1024;

/// Escape that ends all colors.
const RESET: &str = "\u{1b}[m";

/// Converts pieces of a log into sanitized text.
#[derive(Default)]
pub struct Cleaner {
    pending: Vec<u8>,
    escapes: Parser<DefaultCharAccumulator>,
    text: Text,
}

/// Text without escapes, except colors if enabled.
#[derive(Default)]
struct Text {
    clean: String,
    colors: bool,
    /// True if a color was started on this line.
    colored: bool,
}

impl Text {
    fn end_color(&mut self) {
        if std::mem::take(&mut self.colored) {
            self.clean.push_str(RESET);
        }
    }
}

impl Perform for Text {
    fn print(&mut self, c: char) {
        self.clean.push_str(text::printable(c.encode_utf8(&mut [0; 4])).as_str());
    }

    fn execute(&mut self, byte: u8) {
        if byte == b'\t' {
            self.clean.push(' ');
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if !self.colors || action != b'm' || !intermediates.is_empty() || ignore {
            return;
        }
        let numbers: Vec<String> =
            params.iter().map(|part| part.iter().map(u16::to_string).collect::<Vec<_>>().join(":")).collect();
        self.clean.extend(["\u{1b}[", &numbers.join(";"), "m"]);
        self.colored = true;
    }
}

impl Cleaner {
    /// Keeps colors, each at most until the end of its line.
    pub fn with_colors() -> Self {
        Self { text: Text { colors: true, ..Text::default() }, ..Self::default() }
    }

    /// Returns the text of a piece, without control characters. An incomplete character at the end of the piece is held
    /// back for the next one.
    pub fn text(&mut self, piece: &[u8]) -> String {
        self.pending.extend_from_slice(piece);
        let cut = self.pending.len() - unfinished(&self.pending);
        self.take_text(cut)
    }

    /// Returns the complete lines up to the end of a piece, without control characters; the rest is held back.
    pub fn lines(&mut self, piece: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(piece);
        let cut = match self.pending.iter().rposition(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if self.pending.len() > MAX_LINE => self.pending.len() - unfinished(&self.pending),
            None => 0,
        };
        self.take_text(cut).lines().map(str::to_owned).collect()
    }

    /// Returns the text still held back, after the last piece.
    pub fn rest(&mut self) -> String {
        let mut rest = self.take_text(self.pending.len());
        self.text.end_color();
        rest += &std::mem::take(&mut self.text.clean);
        rest
    }

    fn take_text(&mut self, bytes: usize) -> String {
        let rest = self.pending.split_off(bytes);
        let taken = std::mem::replace(&mut self.pending, rest);
        for &byte in String::from_utf8_lossy(&taken).as_bytes() {
            if byte == b'\n' {
                // An unterminated escape must not hide the text that follows.
                self.escapes = Parser::default();
                self.text.end_color();
                self.text.clean.push('\n');
            } else {
                self.escapes.advance(&mut self.text, byte);
            }
        }
        std::mem::take(&mut self.text.clean)
    }
}

/// Number of bytes at the end that belong to an incomplete character.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    match std::str::from_utf8(tail) {
        Ok(_) => 0,
        // The tail may begin inside a character: only its last lead byte counts.
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
    fn characters_survive_any_cut_and_escapes_don_t() {
        let bytes = "aé€𝄞\x1b[31m\nb".as_bytes();
        for cut in 0..=bytes.len() {
            let mut cleaner = Cleaner::default();
            let mut text = cleaner.text(&bytes[..cut]);
            text += &cleaner.text(&bytes[cut..]);
            text += &cleaner.rest();
            assert_eq!(text, "aé€𝄞\nb", "cut at {cut}");
        }
    }

    #[test]
    fn colours_go_or_stay_and_no_other_escape_does() {
        let log = b"\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;title\x07\x1b[38;2;1;2;3mrgb\n\x1b]52;c;never ends\nnext\t\x1b[32mgreen";
        let shown = |mut cleaner: Cleaner| cleaner.text(log) + &cleaner.rest();
        assert_eq!(shown(Cleaner::default()), "red rgb\n\nnext green");
        let colored = "\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mrgb\x1b[m\n\nnext \x1b[32mgreen\x1b[m";
        assert_eq!(shown(Cleaner::with_colors()), colored);
    }

    #[test]
    fn lines_wait_until_they_are_whole_but_not_without_bound() {
        let mut cleaner = Cleaner::default();
        assert_eq!(cleaner.lines(b"a\nb"), ["a"]);
        assert_eq!(cleaner.lines(b"c\n"), ["bc"]);
        assert_eq!(cleaner.lines(&vec![b'x'; MAX_LINE + 1]).concat().len(), MAX_LINE + 1);
        assert_eq!(cleaner.rest(), "");
    }

    #[test]
    fn bytes_that_are_no_text_pass_as_replacement_characters() {
        let mut cleaner = Cleaner::default();
        let text = cleaner.text(b"a\xff\xfeb\xc3") + &cleaner.rest();
        assert_eq!(text, "a\u{fffd}\u{fffd}b\u{fffd}");
    }
}
