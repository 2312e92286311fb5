//! Escapes of a value's characters, as programs print them.

use super::ansi;
use super::prefix_match::Match;

/// Escape style for characters with a special meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EscapeStyle {
    Unescaped,
    /// A backslash before each special character, as in JSON, Python, `printf %q` and double quotes of a shell; also
    /// octal and hex escapes.
    Backslashes,
    /// Single quotes of a shell: a quote is written as `'\''` or `'"'"'`.
    SingleQuoted,
    /// This character is doubled, as in YAML, SQL and CSV.
    Doubled(char),
    /// Entities of HTML and XML.
    Entities,
}

/// All styles but `Unescaped`.
pub(super) const ESCAPE_STYLES: [EscapeStyle; 5] = [
    EscapeStyle::Backslashes,
    EscapeStyle::SingleQuoted,
    EscapeStyle::Doubled('\''),
    EscapeStyle::Doubled('"'),
    EscapeStyle::Entities,
];

impl EscapeStyle {
    /// Returns true if this style may escape any character of the value.
    pub(super) fn alters(self, value: &str) -> bool {
        match self {
            Self::Unescaped => false,
            // Some encoders escape every character.
            Self::Backslashes => true,
            Self::SingleQuoted => value.contains('\''),
            Self::Doubled(quote) => value.contains(quote),
            Self::Entities => value.contains(['&', '<', '>', '"', '\'', '+', '=', '`']),
        }
    }
}

/// One escape of a character, as bytes.
#[derive(Clone, Copy)]
pub(super) struct Escape {
    bytes: [u8; Self::MAX_LENGTH],
    length: usize,
}

impl Escape {
    /// Maximum length of an escape, in bytes: four octal bytes with four backslashes each take 28.
    const MAX_LENGTH: usize = 32;

    const fn empty() -> Self {
        Self { bytes: [0; Self::MAX_LENGTH], length: 0 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn with_byte(mut self, byte: u8) -> Self {
        if let Some(byte_slot) = self.bytes.get_mut(self.length) {
            *byte_slot = byte;
            self.length += 1;
        }
        self
    }

    /// Appends a byte, escaped for `depth` nested JSON strings.
    fn with_json_byte(self, byte: u8, depth: u8) -> Self {
        let slashes = if matches!(byte, b'\\' | b'"') { (1 << depth) - 1 } else { 0 };
        (0..slashes).fold(self, |escape, _| escape.with_byte(b'\\')).with_byte(byte)
    }

    fn with_json_bytes(self, bytes: &[u8], depth: u8) -> Self {
        bytes.iter().fold(self, |escape, byte| escape.with_json_byte(*byte, depth))
    }
}

/// Calls `is_match` with each escape of `c` inside `depth` nested JSON strings, until it returns true. No escape is a
/// prefix of another.
pub(super) fn for_each_escape(
    c: char,
    style: EscapeStyle,
    depth: u8,
    is_match: &mut dyn FnMut(&Escape) -> bool,
) -> bool {
    let mut buffer = [0; 4];
    let plain = c.encode_utf8(&mut buffer).as_bytes();
    let mut try_escape = |bytes: &[u8], depth| is_match(&Escape::empty().with_json_bytes(bytes, depth));
    match style {
        EscapeStyle::SingleQuoted if c == '\'' => {
            return try_escape(b"'\\''", depth) || try_escape(b"'\"'\"'", depth);
        }
        EscapeStyle::Doubled(quote) if c == quote => {
            return try_escape(&[plain[0], plain[0]], depth);
        }
        EscapeStyle::Entities if c.is_ascii_punctuation() => {
            if for_each_entity(c, &mut |entity| try_escape(entity, depth)) {
                return true;
            }
            if "&<>".contains(c) {
                return false;
            }
        }
        _ => {}
    }
    match depth.checked_sub(1) {
        None => try_escape(plain, 0),
        Some(outer) => {
            let is_bare = c != '\\' && (style == EscapeStyle::Backslashes || c != '"');
            is_bare && try_escape(plain, outer) || for_each_backslash_escape(c, outer, &mut try_escape)
        }
    }
}

/// Calls `is_match` with each backslash escape of `c`, and with `outer`, the number of JSON strings around it, until it
/// returns true.
fn for_each_backslash_escape(c: char, outer: u8, is_match: &mut dyn FnMut(&[u8], u8) -> bool) -> bool {
    let mut units = [0; 2];
    let (mut lower, mut upper) = (Escape::empty(), Escape::empty());
    for unit in c.encode_utf16(&mut units) {
        lower = unit
            .to_be_bytes()
            .iter()
            .fold(lower.with_byte(b'\\').with_byte(b'u'), |all, byte| with_hex(all, *byte, false));
        upper = unit
            .to_be_bytes()
            .iter()
            .fold(upper.with_byte(b'\\').with_byte(b'u'), |all, byte| with_hex(all, *byte, true));
    }
    if is_match(lower.as_bytes(), outer)
        || lower.as_bytes() != upper.as_bytes() && is_match(upper.as_bytes(), outer)
    {
        return true;
    }
    if c.is_ascii_alphanumeric() {
        return false;
    }
    let letter: &[u8] = match c {
        '\n' => b"n",
        '\r' => b"r",
        '\t' => b"t",
        '\u{8}' => b"b",
        '\u{c}' => b"f",
        '\u{7}' => b"a",
        '\u{b}' => b"v",
        '\u{1b}' => b"eE",
        _ => b"",
    };
    if letter.iter().any(|letter| is_match(&[b'\\', *letter], outer))
        || c.is_ascii_punctuation() && is_match(&[b'\\', c as u8], outer)
        || c == ' ' && is_match(b"\\ ", outer)
    {
        return true;
    }
    let (mut octal, mut bytes) = (Escape::empty(), Escape::empty());
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        octal = octal
            .with_byte(b'\\')
            .with_byte(b'0' + (byte >> 6))
            .with_byte(b'0' + (byte >> 3 & 7))
            .with_byte(b'0' + (byte & 7));
        bytes = with_hex(bytes.with_byte(b'\\').with_byte(b'x'), byte, false);
    }
    is_match(octal.as_bytes(), outer) || is_match(bytes.as_bytes(), outer)
}

fn with_hex(escape: Escape, byte: u8, is_upper: bool) -> Escape {
    let digit = |nibble: u8| match nibble {
        0..=9 => b'0' + nibble,
        _ if is_upper => b'A' + nibble - 10,
        _ => b'a' + nibble - 10,
    };
    escape.with_byte(digit(byte >> 4)).with_byte(digit(byte & 15))
}

/// Calls `is_match` with the named, decimal and hex entities of a character until it returns true.
fn for_each_entity(c: char, is_match: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let name: &[u8] = match c {
        '&' => b"&amp;",
        '<' => b"&lt;",
        '>' => b"&gt;",
        '"' => b"&quot;",
        '\'' => b"&apos;",
        _ => b"",
    };
    let code = c as u8;
    let (tens, ones) = (b'0' + code / 10 % 10, b'0' + code % 10);
    let number =
        |digits: &[u8]| Escape::empty().with_json_bytes(b"&#", 0).with_json_bytes(digits, 0).with_byte(b';');
    let decimal = if code < 100 { number(&[tens, ones]) } else { number(&[b'1', tens, ones]) };
    let padded = number(&[b'0' + code / 100, tens, ones]);
    let digits = |is_upper| with_hex(Escape::empty(), code, is_upper);
    let [lower, upper] = [false, true].map(|is_upper| {
        Escape::empty()
            .with_json_bytes(b"&#x", 0)
            .with_json_bytes(digits(is_upper).as_bytes(), 0)
            .with_byte(b';')
    });
    !name.is_empty() && is_match(name)
        || [decimal, padded, lower, upper].iter().any(|escape| is_match(escape.as_bytes()))
}

/// Compares the beginning of a text with an escaped value; ignores colours within the value.
pub(super) fn compare(value: &str, style: EscapeStyle, depth: u8, text: &[u8]) -> Match {
    if style == EscapeStyle::Unescaped {
        return compare_unescaped(value.as_bytes(), text);
    }
    let (mut at, mut colours) = (0, 0);
    for c in value.chars() {
        loop {
            match compare_character(c, style, depth, &text[at..]) {
                Match::Complete(length) => {
                    at += length;
                    break;
                }
                Match::Partial => return Match::Partial,
                Match::Mismatch if at == 0 || colours == ansi::MAX_SEQUENCES => return Match::Mismatch,
                Match::Mismatch => {}
            }
            match ansi::match_sequence(depth, &text[at..]) {
                Match::Complete(length) => (at, colours) = (at + length, colours + 1),
                result => return result,
            }
        }
    }
    Match::Complete(at)
}

fn compare_character(c: char, style: EscapeStyle, depth: u8, text: &[u8]) -> Match {
    match text.first() {
        None => return Match::Partial,
        // Fast path: most characters have no escape.
        Some(first) if c.is_ascii_alphanumeric() && *first == c as u8 => return Match::Complete(1),
        Some(b'\\') if c.is_ascii_alphanumeric() && depth > 0 => {
            return compare_unicode_escape(c as u8, depth, text);
        }
        Some(_) if c.is_ascii_alphanumeric() => return Match::Mismatch,
        Some(_) => {}
    }
    let mut result = Match::Mismatch;
    for_each_escape(c, style, depth, &mut |escape| {
        let escape = escape.as_bytes();
        if text.starts_with(escape) {
            result = Match::Complete(escape.len());
        } else if escape.starts_with(text) {
            result = Match::Partial;
        }
        result != Match::Mismatch
    });
    result
}

/// Compares the beginning of a text with an escape such as `\u0073`. Must be fast, because every such escape in a text
/// is compared with every secret.
fn compare_unicode_escape(c: u8, depth: u8, text: &[u8]) -> Match {
    let slashes = 1_usize << (depth - 1);
    let digit = |n: usize| char::from_digit(u32::from(c >> (4 * n) & 15), 16).map_or(0, |digit| digit as u8);
    for n in 0..slashes + 5 {
        let wanted = match n.checked_sub(slashes) {
            None => b'\\',
            Some(0) => b'u',
            Some(1 | 2) => b'0',
            Some(n) => digit(4 - n),
        };
        match text.get(n) {
            None => return Match::Partial,
            Some(byte) if *byte == wanted || n > slashes && byte.to_ascii_lowercase() == wanted => {}
            Some(_) => return Match::Mismatch,
        }
    }
    Match::Complete(slashes + 5)
}

fn compare_unescaped(value: &[u8], text: &[u8]) -> Match {
    let (mut matched, mut at, mut colours) = (0, 0, 0);
    loop {
        let same = value[matched..].iter().zip(&text[at..]).take_while(|(a, b)| a == b).count();
        (matched, at) = (matched + same, at + same);
        if matched == value.len() {
            return Match::Complete(at);
        }
        if matched == 0 || colours == ansi::MAX_SEQUENCES {
            return if at == text.len() { Match::Partial } else { Match::Mismatch };
        }
        match ansi::match_sequence(0, &text[at..]) {
            Match::Complete(length) => (at, colours) = (at + length, colours + 1),
            result => return result,
        }
    }
}
