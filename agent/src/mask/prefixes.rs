//! Prefixes of a value: its first bytes in each encoding, for the search in a text.

use std::collections::BTreeMap;

use super::compare::{Encoding, PERCENT_PREFIXES, nibble, sextet, skipped_bits, utf16_le};
use super::escapes::{ESCAPE_STYLES, EscapeStyle, for_each_escape};
use super::index::{PREFIX_LENGTH, Prefix};

/// Maximum number of nested levels of JSON: a tool's answer in a command's output in a line of Codex.
const JSON_DEPTH: u8 = 3;
/// Line breaks in the output of `base64` and `xxd`, unescaped and inside JSON.
const LINE_BREAKS: [&str; 3] = ["\n", "\\n", "\r\n"];

/// Bytes that can follow the `ESC [` of a colour.
const COLOR_BYTES: &[u8] = b"0123456789;mK";

const BASE64_STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX_DIGITS: [&[u8; 16]; 2] = [b"0123456789abcdef", b"0123456789ABCDEF"];
/// Bytes that percent-encoders don't encode, from the strictest encoder to the least strict.
const UNRESERVED: [&[u8]; 5] = [b"-_.~", b"-_.", b"-_.~/", b"-_.~!'()*", b"-_.~!'()*/:@&=+$,;"];

/// Prefixes of a value, each with the encodings that begin with it.
type PrefixMap = BTreeMap<Prefix, Vec<Encoding>>;

/// Adds the first bytes of a text as a prefix. Each text is long enough for that, because each value is.
fn add_prefix(prefixes: &mut PrefixMap, beginning: &[u8], encoding: Encoding) {
    let Some(beginning) = beginning.first_chunk() else { return };
    let encodings = prefixes.entry(*beginning).or_default();
    if !encodings.contains(&encoding) {
        encodings.push(encoding);
    }
}

/// Returns the prefixes of an unencoded value.
pub(super) fn plain_prefixes(value: &str) -> PrefixMap {
    let mut prefixes = PrefixMap::new();
    add_escaped_prefixes(value, EscapeStyle::Unescaped, 0, &[], &mut |start| {
        add_prefix(&mut prefixes, start, Encoding::Text(EscapeStyle::Unescaped, 0));
    });
    prefixes
}

/// Returns the prefixes of a value in every encoding.
pub(super) fn encoded_prefixes(value: &str) -> PrefixMap {
    let mut prefixes = plain_prefixes(value);
    let mut add = |beginning: &[u8], encoding| add_prefix(&mut prefixes, beginning, encoding);
    for style in ESCAPE_STYLES.into_iter().filter(|style| style.alters(value)) {
        for depth in u8::from(style == EscapeStyle::Backslashes)..=JSON_DEPTH {
            add_escaped_prefixes(value, style, depth, &[], &mut |start| {
                add(start, Encoding::Text(style, depth));
            });
        }
    }
    for levels in 1..=2 {
        for start in percent_prefixes(value.as_bytes(), PERCENT_PREFIXES[usize::from(levels > 1)]) {
            add(&start, Encoding::Percent(levels));
        }
    }
    let wide = utf16_le(value);
    for shift in 0..3 {
        for alphabet in [BASE64_STANDARD, BASE64_URL_SAFE] {
            for start in with_breaks(&base64_digits(value.as_bytes(), shift, alphabet), &[]) {
                add(&start, Encoding::Base64(shift));
            }
        }
        add(&base64_digits(&wide, shift, BASE64_STANDARD), Encoding::Base64Utf16(shift));
    }
    for digits in HEX_DIGITS {
        let count = PREFIX_LENGTH.min(value.len() * 2);
        let hex: Vec<u8> = (0..count).map(|n| digits[usize::from(nibble(value.as_bytes(), n))]).collect();
        for start in with_breaks(&hex, &[" ", ":"]) {
            add(&start, Encoding::Hex);
        }
    }
    prefixes
}

/// Calls `add` with every prefix that the escapes of the characters, with colours between them, can form.
fn add_escaped_prefixes(rest: &str, style: EscapeStyle, depth: u8, start: &[u8], add: &mut dyn FnMut(&[u8])) {
    let mut chars = rest.chars();
    let Some(c) = chars.next().filter(|_| start.len() < PREFIX_LENGTH) else { return add(start) };
    // At the start, a letter or digit is searched for as itself only, not as an escape, in two cases: in three levels
    // of JSON, because too many texts begin with the four backslashes of such an escape; and in styles other than
    // backslashes, because an escaped letter is too rare there.
    let is_bare_only =
        c.is_ascii_alphanumeric() && start.is_empty() && (style != EscapeStyle::Backslashes || depth > 2);
    for_each_escape(c, style, depth, &mut |escape| {
        if is_bare_only && escape.as_bytes().len() > 1 {
            return true;
        }
        let start = [start, escape.as_bytes()].concat();
        add_escaped_prefixes(chars.as_str(), style, depth, &start, add);
        false
    });
    if start.is_empty() {
        return;
    }
    let escape = if depth == 0 { "\x1b[".to_owned() } else { "\\".repeat(1 << (depth - 1)) + "u001b[" };
    for next in COLOR_BYTES {
        add(&[start, escape.as_bytes(), &[*next]].concat());
    }
}

/// Returns the prefixes that percent-encoders produce, including those that encode every byte.
fn percent_prefixes(value: &[u8], mark: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for digits in HEX_DIGITS {
        let encoded = |byte: u8| {
            let digits = [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
            [mark, &digits].concat()
        };
        let start = &value[..value.len().min(PREFIX_LENGTH)];
        found.push(start.iter().copied().flat_map(encoded).collect());
        for (unreserved, plus) in
            UNRESERVED.iter().flat_map(|unreserved| [(unreserved, false), (unreserved, true)])
        {
            let spelled = |byte: &u8| match byte {
                b' ' if plus => vec![b'+'],
                byte if is_unreserved(*byte, unreserved) => vec![*byte],
                byte => encoded(*byte),
            };
            found.push(start.iter().flat_map(spelled).collect());
        }
    }
    found
}

fn is_unreserved(byte: u8, unreserved: &[u8]) -> bool {
    byte.is_ascii_alphanumeric() || unreserved.contains(&byte)
}

fn base64_digits(value: &[u8], shift: u8, alphabet: &[u8; 64]) -> Vec<u8> {
    let skip = skipped_bits(shift);
    let count = PREFIX_LENGTH.min((value.len() * 8 - skip) / 6);
    let byte = |at: usize| value.get(at).copied().unwrap_or(0);
    (0..count).map(|n| alphabet[usize::from(sextet(&byte, skip + 6 * n))]).collect()
}

/// Returns all forms of digits: without line breaks, with one line break at each position, and with a separator
/// after each pair.
fn with_breaks(digits: &[u8], separators: &[&str]) -> Vec<Vec<u8>> {
    let mut found = vec![digits.to_vec()];
    for at in 1..digits.len() {
        let (before, after) = digits.split_at(at);
        found.extend(LINE_BREAKS.iter().map(|mark| [before, mark.as_bytes(), after].concat()));
    }
    for separator in separators {
        found.push(digits.chunks(2).collect::<Vec<_>>().join(separator.as_bytes()));
    }
    found
}
