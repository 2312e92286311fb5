//! Spellings of a value's characters in the output of programs.

use super::ansi;
use super::prefix_match::Match;

/// Treatment of the characters that are special in the context of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EscapeStyle {
    /// Unchanged.
    Bare,
    /// Backslash before them, as in JSON, Python, `printf %q` and double quotes of a shell; octal and hex too.
    Backslashes,
    /// Single quotes of a shell: `'\''` or `'"'"'` for each.
    Quoted,
    /// This character doubled: YAML, SQL and CSV.
    Doubled(char),
    /// Entities of HTML and XML.
    Entities,
}

/// All forms but the bare one.
pub(super) const ESCAPE_STYLES: [EscapeStyle; 5] = [
    EscapeStyle::Backslashes,
    EscapeStyle::Quoted,
    EscapeStyle::Doubled('\''),
    EscapeStyle::Doubled('"'),
    EscapeStyle::Entities,
];

impl EscapeStyle {
    /// Returns true if a value may look different in this form.
    pub(super) fn alters(self, value: &str) -> bool {
        match self {
            Self::Bare => false,
            // Some encoders write every character like that.
            Self::Backslashes => true,
            Self::Quoted => value.contains('\''),
            Self::Doubled(quote) => value.contains(quote),
            Self::Entities => value.contains(['&', '<', '>', '"', '\'', '+', '=', '`']),
        }
    }
}

/// One escape of a character.
#[derive(Clone, Copy)]
pub(super) struct Escape {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl Escape {
    /// Longest escape, in bytes: four octal bytes with four backslashes each take 28.
    const LONGEST: usize = 32;

    const fn empty() -> Self {
        Self { bytes: [0; Self::LONGEST], length: 0 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn byte(mut self, byte: u8) -> Self {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
        self
    }

    /// Appends a byte as in JSON strings so many levels deep.
    fn raw(self, byte: u8, depth: u8) -> Self {
        let slashes = if matches!(byte, b'\\' | b'"') { (1 << depth) - 1 } else { 0 };
        (0..slashes).fold(self, |escape, _| escape.byte(b'\\')).byte(byte)
    }

    fn all(self, bytes: &[u8], depth: u8) -> Self {
        bytes.iter().fold(self, |escape, byte| escape.raw(*byte, depth))
    }
}

/// Calls `take` with each escape of a character, until it returns true. None is a prefix of another.
pub(super) fn escapes(c: char, form: EscapeStyle, depth: u8, take: &mut dyn FnMut(&Escape) -> bool) -> bool {
    let mut buffer = [0; 4];
    let plain = c.encode_utf8(&mut buffer).as_bytes();
    let mut give = |bytes: &[u8], depth| take(&Escape::empty().all(bytes, depth));
    match form {
        EscapeStyle::Quoted if c == '\'' => return give(b"'\\''", depth) || give(b"'\"'\"'", depth),
        EscapeStyle::Doubled(quote) if c == quote => {
            return give(&[plain[0], plain[0]], depth);
        }
        EscapeStyle::Entities if c.is_ascii_punctuation() => {
            if entities(c, &mut |entity| give(entity, depth)) {
                return true;
            }
            if "&<>".contains(c) {
                return false;
            }
        }
        _ => {}
    }
    match depth.checked_sub(1) {
        None => give(plain, 0),
        Some(outer) => {
            let is_bare = c != '\\' && (form == EscapeStyle::Backslashes || c != '"');
            is_bare && give(plain, outer) || backslashes(c, outer, &mut give)
        }
    }
}

/// Calls `give` with the escapes with a backslash, as in JSON strings so many levels deep.
fn backslashes(c: char, outer: u8, give: &mut dyn FnMut(&[u8], u8) -> bool) -> bool {
    let mut units = [0; 2];
    let (mut lower, mut upper) = (Escape::empty(), Escape::empty());
    for unit in c.encode_utf16(&mut units) {
        lower =
            unit.to_be_bytes().iter().fold(lower.byte(b'\\').byte(b'u'), |all, byte| hex(all, *byte, false));
        upper =
            unit.to_be_bytes().iter().fold(upper.byte(b'\\').byte(b'u'), |all, byte| hex(all, *byte, true));
    }
    if give(lower.as_bytes(), outer) || lower.as_bytes() != upper.as_bytes() && give(upper.as_bytes(), outer)
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
    if letter.iter().any(|letter| give(&[b'\\', *letter], outer))
        || c.is_ascii_punctuation() && give(&[b'\\', c as u8], outer)
        || c == ' ' && give(b"\\ ", outer)
    {
        return true;
    }
    let (mut octal, mut bytes) = (Escape::empty(), Escape::empty());
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        octal =
            octal.byte(b'\\').byte(b'0' + (byte >> 6)).byte(b'0' + (byte >> 3 & 7)).byte(b'0' + (byte & 7));
        bytes = hex(bytes.byte(b'\\').byte(b'x'), byte, false);
    }
    give(octal.as_bytes(), outer) || give(bytes.as_bytes(), outer)
}

fn hex(escape: Escape, byte: u8, upper: bool) -> Escape {
    let digit = |nibble: u8| match nibble {
        0..=9 => b'0' + nibble,
        _ if upper => b'A' + nibble - 10,
        _ => b'a' + nibble - 10,
    };
    escape.byte(digit(byte >> 4)).byte(digit(byte & 15))
}

/// Calls `give` with the named, decimal and hex entities.
fn entities(c: char, give: &mut dyn FnMut(&[u8]) -> bool) -> bool {
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
    let number = |digits: &[u8]| Escape::empty().all(b"&#", 0).all(digits, 0).byte(b';');
    let decimal = if code < 100 { number(&[tens, ones]) } else { number(&[b'1', tens, ones]) };
    let padded = number(&[b'0' + code / 100, tens, ones]);
    let digits = |upper| hex(Escape::empty(), code, upper);
    let [lower, upper] =
        [false, true].map(|upper| Escape::empty().all(b"&#x", 0).all(digits(upper).as_bytes(), 0).byte(b';'));
    !name.is_empty() && give(name)
        || [decimal, padded, lower, upper].iter().any(|escape| give(escape.as_bytes()))
}

/// Compares the beginning of a text with a value, ignoring colours in between.
pub(super) fn compare(value: &str, form: EscapeStyle, depth: u8, text: &[u8]) -> Match {
    if form == EscapeStyle::Bare {
        return bare(value.as_bytes(), text);
    }
    let (mut at, mut colours) = (0, 0);
    for c in value.chars() {
        loop {
            match character(c, form, depth, &text[at..]) {
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
                seen => return seen,
            }
        }
    }
    Match::Complete(at)
}

fn character(c: char, form: EscapeStyle, depth: u8, text: &[u8]) -> Match {
    match text.first() {
        None => return Match::Partial,
        // Nearly every character of nearly every value.
        Some(first) if c.is_ascii_alphanumeric() && *first == c as u8 => return Match::Complete(1),
        Some(b'\\') if c.is_ascii_alphanumeric() && depth > 0 => return unicode_escape(c as u8, depth, text),
        Some(_) if c.is_ascii_alphanumeric() => return Match::Mismatch,
        Some(_) => {}
    }
    let mut seen = Match::Mismatch;
    escapes(c, form, depth, &mut |escape| {
        let escape = escape.as_bytes();
        if text.starts_with(escape) {
            seen = Match::Complete(escape.len());
        } else if escape.starts_with(text) {
            seen = Match::Partial;
        }
        seen != Match::Mismatch
    });
    seen
}

/// Compares with `\u0073`. Fast, since every escape of a text is compared with every secret.
fn unicode_escape(c: u8, depth: u8, text: &[u8]) -> Match {
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

fn bare(value: &[u8], text: &[u8]) -> Match {
    let (mut known, mut at, mut colours) = (0, 0, 0);
    loop {
        let same = value[known..].iter().zip(&text[at..]).take_while(|(a, b)| a == b).count();
        (known, at) = (known + same, at + same);
        if known == value.len() {
            return Match::Complete(at);
        }
        if known == 0 || colours == ansi::MAX_SEQUENCES {
            return if at == text.len() { Match::Partial } else { Match::Mismatch };
        }
        match ansi::match_sequence(0, &text[at..]) {
            Match::Complete(length) => (at, colours) = (at + length, colours + 1),
            seen => return seen,
        }
    }
}
