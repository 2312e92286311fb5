//! Matcher of terminal sequences, such as colours (`ESC [ … m`, `ESC [ K`), within a secret value.

use super::prefix_match::Match;

/// Maximum length of a sequence, in bytes; true colour takes 19.
const MAX_SEQUENCE: usize = 32;
/// Maximum number of sequences within one value: two for each character of a long token. Without a limit, the masker
/// might have to hold back any amount of output.
pub(super) const MAX_SEQUENCES: usize = 256;

/// Matches one sequence at the beginning of a text. `depth` is the number of nested JSON strings around the text.
pub(super) fn match_sequence(depth: u8, text: &[u8]) -> Match {
    let mut at = 0;
    let slashes = if depth == 0 { 0 } else { 1 << (depth - 1) };
    let escape = if depth == 0 { b"\x1b[".as_slice() } else { b"u001b[" };
    for n in 0..slashes + escape.len() {
        let wanted = if n < slashes { b'\\' } else { escape[n - slashes] };
        match text.get(at) {
            None => return Match::Partial,
            Some(byte) if byte.to_ascii_lowercase() == wanted => at += 1,
            Some(_) => return Match::Mismatch,
        }
    }
    let start = at;
    for byte in text[start..].iter().take(MAX_SEQUENCE) {
        at += 1;
        match byte {
            b'0'..=b'?' => {}
            b'@'..=b'~' => return Match::Complete(at),
            _ => return Match::Mismatch,
        }
    }
    if text[start..].len() < MAX_SEQUENCE { Match::Partial } else { Match::Mismatch }
}

/// Returns true if a terminal shows at most `max_bytes` bytes of a text. A terminal does not show an unfinished
/// sequence at the end of the text.
pub(super) fn shows_at_most(max_bytes: usize, text: &[u8]) -> bool {
    let (mut at, mut count) = (0, 0);
    while at < text.len() && count <= max_bytes {
        match match_sequence(0, &text[at..]) {
            Match::Complete(length) => at += length,
            Match::Partial => break,
            Match::Mismatch => (at, count) = (at + 1, count + 1),
        }
    }
    count <= max_bytes
}
