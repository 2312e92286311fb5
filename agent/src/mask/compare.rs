//! Comparison of a text with a value in some encoding.

/// An encoding of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Encoding {
    /// As it is.
    Plain,
    /// Inside JSON strings so many levels deep.
    Json(u8),
    /// Percent-encoded, the characters that need no encoding either way; `+` for a space too.
    Percent,
    /// Base64 of either alphabet, behind so many bytes (0 to 2) of the last group before it.
    Base64(u8),
    /// Hex of either case, with or without spaces or colons in between.
    Hex,
}

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The text is something else.
    Other,
    /// The text ends within the value.
    Part,
    /// The value takes so many bytes.
    Whole(usize),
}

/// Line breaks within base64 and hex, as they are and inside JSON strings.
const BREAKS: [&[u8]; 8] = [b"\n", b"\r", b"\\n", b"\\r", b"\\\\n", b"\\\\r", b"\\\\\\\\n", b"\\\\\\\\r"];
/// Line breaks in a row: CR and LF. More would let a text hold back as much output as it likes.
const BREAKS_IN_A_ROW: usize = 2;

/// Compares the beginning of a text with a value.
pub(super) fn compare(encoding: Encoding, value: &str, text: &[u8]) -> Seen {
    match encoding {
        Encoding::Plain => plain(value.as_bytes(), text),
        Encoding::Json(depth) => json(value, depth, text),
        Encoding::Percent => percent(value.as_bytes(), text),
        Encoding::Base64(shift) => {
            let (value, skip) = (value.as_bytes(), skipped_bits(shift));
            digits((value.len() * 8 - skip) / 6, |n| sextet(value, skip + 6 * n), sextet_of, false, text)
        }
        Encoding::Hex => {
            let value = value.as_bytes();
            digits(value.len() * 2, |n| nibble(value, n), nibble_of, true, text)
        }
    }
}

fn plain(value: &[u8], text: &[u8]) -> Seen {
    let common = value.len().min(text.len());
    match (value[..common] == text[..common], common == value.len()) {
        (false, _) => Seen::Other,
        (true, true) => Seen::Whole(common),
        (true, false) => Seen::Part,
    }
}

fn json(value: &str, depth: u8, text: &[u8]) -> Seen {
    let mut at = 0;
    for c in value.chars() {
        let rest = &text[at..];
        if rest.is_empty() {
            return Seen::Part;
        }
        if c.is_ascii_alphanumeric() && rest[0] == c as u8 {
            at += 1;
            continue;
        }
        let mut part = false;
        let whole = spellings(c, depth).into_iter().find(|spelling| {
            part |= spelling.starts_with(rest);
            rest.starts_with(spelling)
        });
        match whole {
            Some(spelling) => at += spelling.len(),
            None if part => return Seen::Part,
            None => return Seen::Other,
        }
    }
    Seen::Whole(at)
}

/// How JSON may spell a character so many levels deep, the usual ways first.
pub(super) fn spellings(c: char, depth: u8) -> Vec<Vec<u8>> {
    let mut spellings: Vec<String> = Vec::new();
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '/' => "\\/",
        _ => "",
    };
    if !matches!(c, '"' | '\\' | '\0'..'\x20') {
        spellings.push(c.to_string());
    }
    if !short.is_empty() {
        spellings.push(short.to_owned());
    }
    let mut units = [0; 2];
    let units = c.encode_utf16(&mut units);
    let lower: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
    let upper: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04X}")).collect();
    spellings.extend([lower.concat(), upper.concat()]);
    for _ in 1..depth {
        for spelling in &mut spellings {
            *spelling = spelling.replace('\\', "\\\\").replace('"', "\\\"");
        }
    }
    spellings.into_iter().map(String::into_bytes).collect()
}

fn percent(value: &[u8], text: &[u8]) -> Seen {
    let mut at = 0;
    for byte in value {
        match &text[at..] {
            [] | [b'%'] => return Seen::Part,
            [b'%', high] => {
                return if nibble_of(*high) == Some(byte >> 4) { Seen::Part } else { Seen::Other };
            }
            [b'%', high, low, ..] => {
                if (nibble_of(*high), nibble_of(*low)) != (Some(byte >> 4), Some(byte & 15)) {
                    return Seen::Other;
                }
                at += 3;
            }
            [other, ..] if other == byte || (*byte == b' ' && *other == b'+') => at += 1,
            _ => return Seen::Other,
        }
    }
    Seen::Whole(at)
}

/// Compares digits, with line breaks between them.
fn digits(
    count: usize,
    digit: impl Fn(usize) -> u8,
    read: impl Fn(u8) -> Option<u8>,
    separated: bool,
    text: &[u8],
) -> Seen {
    let mut at = 0;
    for n in 0..count {
        for _ in 0..BREAKS_IN_A_ROW {
            let rest = &text[at..];
            match BREAKS.iter().find(|mark| rest.starts_with(mark)) {
                Some(mark) if n > 0 => at += mark.len(),
                _ => break,
            }
        }
        if separated && n > 0 && n % 2 == 0 && matches!(text.get(at), Some(b' ' | b':')) {
            at += 1;
        }
        let rest = &text[at..];
        match rest.first() {
            None => return Seen::Part,
            Some(byte) if read(*byte) == Some(digit(n)) => at += 1,
            Some(b'\\') if n > 0 && BREAKS.iter().any(|mark| mark.starts_with(rest)) => return Seen::Part,
            Some(_) => return Seen::Other,
        }
    }
    Seen::Whole(at)
}

/// How many bits of a value share their first base64 digits with what stands before it.
pub(super) fn skipped_bits(shift: u8) -> usize {
    [0, 4, 2][usize::from(shift % 3)]
}

/// Six bits of a value.
pub(super) fn sextet(value: &[u8], bit: usize) -> u8 {
    let byte = |at: usize| u16::from(value.get(at).copied().unwrap_or(0));
    let pair = byte(bit / 8) << 8 | byte(bit / 8 + 1);
    u8::try_from(pair >> (10 - bit % 8) & 63).unwrap_or(0)
}

fn sextet_of(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Four bits of a value.
pub(super) fn nibble(value: &[u8], n: usize) -> u8 {
    let byte = value.get(n / 2).copied().unwrap_or(0);
    if n.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

fn nibble_of(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
