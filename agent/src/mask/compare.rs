//! Comparison of a text with a secret value in one of several encodings.

use super::escapes::{self, EscapeStyle};
use super::prefix_match::Match;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Encoding {
    /// Text with escapes of this style, inside this number of nested JSON strings.
    Text(EscapeStyle, u8),
    /// Percent-encoded this number of times. Any character may be encoded, and a space may be `+`.
    Percent(u8),
    /// Base64 in either alphabet. The number (0 to 2) counts the bytes before the value in its first group of three.
    Base64(u8),
    /// Base64 of the value in little-endian UTF-16 (PowerShell). The number means the same as in [`Self::Base64`].
    Base64Utf16(u8),
    /// Hex digits in either case, optionally with spaces or colons between the bytes.
    Hex,
}

/// Line breaks within base64 and hex, unescaped and inside JSON strings.
const LINE_BREAKS: [&[u8]; 8] =
    [b"\n", b"\r", b"\\n", b"\\r", b"\\\\n", b"\\\\r", b"\\\\\\\\n", b"\\\\\\\\r"];
/// Maximum number of line breaks in a row: CR and LF. Without a limit, the masker might hold back any amount of output.
const MAX_BREAKS: usize = 2;

/// Text before the two hex digits of a percent-encoded byte, for one and two levels of encoding.
pub(super) const PERCENT_PREFIXES: [&[u8]; 2] = [b"%", b"%25"];

/// Compares the beginning of a text with a value in this encoding.
pub(super) fn compare(encoding: Encoding, value: &str, text: &[u8]) -> Match {
    match encoding {
        Encoding::Text(style, depth) => escapes::compare(value, style, depth, text),
        Encoding::Percent(levels) => compare_percent(value.as_bytes(), levels, text),
        Encoding::Base64(shift) => compare_base64(value.len(), |at| value.as_bytes()[at], shift, text),
        Encoding::Base64Utf16(shift) if value.is_ascii() => {
            let byte = |at: usize| if at.is_multiple_of(2) { value.as_bytes()[at / 2] } else { 0 };
            compare_base64(value.len() * 2, byte, shift, text)
        }
        Encoding::Base64Utf16(shift) => {
            let wide = utf16_le(value);
            compare_base64(wide.len(), |at| wide[at], shift, text)
        }
        Encoding::Hex => {
            let value = value.as_bytes();
            compare_digits(value.len() * 2, |n| nibble(value, n), decode_nibble, true, text)
        }
    }
}

fn compare_base64(length: usize, byte: impl Fn(usize) -> u8, shift: u8, text: &[u8]) -> Match {
    let skip = skipped_bits(shift);
    let byte = |at: usize| if at < length { byte(at) } else { 0 };
    compare_digits((length * 8 - skip) / 6, |n| sextet(&byte, skip + 6 * n), decode_sextet, false, text)
}

/// Returns a value in little-endian UTF-16.
pub(super) fn utf16_le(value: &str) -> Vec<u8> {
    value.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn compare_percent(value: &[u8], levels: u8, text: &[u8]) -> Match {
    let mark = PERCENT_PREFIXES[usize::from(levels > 1)];
    let mut at = 0;
    for byte in value {
        let rest = &text[at..];
        if mark.starts_with(rest) {
            return Match::Partial;
        }
        match rest.strip_prefix(mark) {
            Some([]) => return Match::Partial,
            Some([high]) => {
                return if decode_nibble(*high) == Some(byte >> 4) {
                    Match::Partial
                } else {
                    Match::Mismatch
                };
            }
            Some([high, low, ..]) => {
                if (decode_nibble(*high), decode_nibble(*low)) != (Some(byte >> 4), Some(byte & 15)) {
                    return Match::Mismatch;
                }
                at += mark.len() + 2;
            }
            None if rest[0] == *byte && *byte != b'%' || (*byte == b' ' && rest[0] == b'+') => at += 1,
            None => return Match::Mismatch,
        }
    }
    Match::Complete(at)
}

/// Compares the beginning of a text with `count` digits, which may have line breaks between them.
fn compare_digits(
    count: usize,
    digit: impl Fn(usize) -> u8,
    decode: impl Fn(u8) -> Option<u8>,
    allows_separators: bool,
    text: &[u8],
) -> Match {
    let mut at = 0;
    for n in 0..count {
        for _ in 0..MAX_BREAKS {
            let rest = &text[at..];
            match LINE_BREAKS.iter().find(|mark| rest.starts_with(mark)) {
                Some(mark) if n > 0 => at += mark.len(),
                _ => break,
            }
        }
        if allows_separators && n > 0 && n % 2 == 0 && matches!(text.get(at), Some(b' ' | b':')) {
            at += 1;
        }
        let rest = &text[at..];
        match rest.first() {
            None => return Match::Partial,
            Some(byte) if decode(*byte) == Some(digit(n)) => at += 1,
            Some(b'\\') if n > 0 && LINE_BREAKS.iter().any(|mark| mark.starts_with(rest)) => {
                return Match::Partial;
            }
            Some(_) => return Match::Mismatch,
        }
    }
    Match::Complete(at)
}

/// Returns the number of leading bits of a value that share a base64 digit with bytes before the value.
pub(super) fn skipped_bits(shift: u8) -> usize {
    [0, 4, 2][usize::from(shift % 3)]
}

/// Returns the six bits of a value that begin at `bit`. Bytes after the value's end count as 0.
pub(super) fn sextet(byte: &impl Fn(usize) -> u8, bit: usize) -> u8 {
    let pair = u16::from(byte(bit / 8)) << 8 | u16::from(byte(bit / 8 + 1));
    u8::try_from(pair >> (10 - bit % 8) & 63).unwrap_or(0)
}

fn decode_sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Returns the `n`th group of four bits of a value.
pub(super) fn nibble(value: &[u8], n: usize) -> u8 {
    let byte = value.get(n / 2).copied().unwrap_or(0);
    if n.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

fn decode_nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
