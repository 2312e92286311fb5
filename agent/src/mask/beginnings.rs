//! The first bytes of a value in each of its encodings: what is looked for.

use std::collections::BTreeMap;

use super::compare::{Encoding, nibble, sextet, skipped_bits, spellings};
use super::index::{Beginning, WINDOW};

/// JSON inside JSON inside JSON: a tool's answer in a command's output in Codex's own lines.
const JSON_DEPTH: u8 = 3;
/// Line breaks of `base64` and `xxd`, as they are and inside JSON.
const BREAKS: [&str; 3] = ["\n", "\\n", "\r\n"];

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: [&[u8; 16]; 2] = [b"0123456789abcdef", b"0123456789ABCDEF"];
/// Bytes that percent-encoders leave alone, from the strictest to the most generous.
const UNRESERVED: [&[u8]; 5] = [b"-_.~", b"-_.", b"-_.~/", b"-_.~!'()*", b"-_.~!'()*/:@&=+$,;"];

/// The beginnings of a value, each with the encodings that begin with it.
pub(super) fn beginnings(value: &str) -> BTreeMap<Beginning, Vec<Encoding>> {
    let mut found: BTreeMap<Beginning, Vec<Encoding>> = BTreeMap::new();
    let mut add = |beginning: &[u8], encoding| {
        // A value is longer than a beginning, in any encoding.
        let Some(beginning) = beginning.first_chunk() else { return };
        let encodings = found.entry(*beginning).or_default();
        if !encodings.contains(&encoding) {
            encodings.push(encoding);
        }
    };
    add(value.as_bytes(), Encoding::Plain);
    if value.chars().any(|c| !c.is_ascii() || c.is_ascii_control() || "\"\\/<>&'".contains(c)) {
        for depth in 1..=JSON_DEPTH {
            for start in json(value, depth) {
                add(&start, Encoding::Json(depth));
            }
        }
    }
    for start in percent(value.as_bytes()) {
        add(&start, Encoding::Percent);
    }
    for shift in 0..3 {
        for alphabet in [STANDARD, URL_SAFE] {
            for start in broken(&base64(value.as_bytes(), shift, alphabet), &[]) {
                add(&start, Encoding::Base64(shift));
            }
        }
    }
    for digits in HEX {
        let count = WINDOW.min(value.len() * 2);
        let hex: Vec<u8> = (0..count).map(|n| digits[usize::from(nibble(value.as_bytes(), n))]).collect();
        for start in broken(&hex, &[" ", ":"]) {
            add(&start, Encoding::Hex);
        }
    }
    found
}

/// The beginnings that JSON encoders give it: each escapes in a way of its own.
fn json(value: &str, depth: u8) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for style in 0..24_u8 {
        let (unicode, html, slash, all) =
            (style % 3, style / 3 % 2 == 1, style / 6 % 2 == 1, style / 12 == 1);
        let mut start = Vec::new();
        for c in value.chars().take(WINDOW) {
            let mut spellings = spellings(c, depth);
            let (upper, lower) = (spellings.pop(), spellings.pop());
            let escaped = if unicode == 2 { upper } else { lower };
            let special = all && !c.is_ascii_alphanumeric()
                || html && "<>&'".contains(c)
                || unicode > 0 && !c.is_ascii();
            let at = usize::from(slash && c == '/');
            let usual = spellings.into_iter().nth(at).filter(|_| !special);
            start.extend(usual.or(escaped).unwrap_or_default());
        }
        found.push(start);
    }
    found
}

/// The beginnings that percent-encoders give it, with every byte encoded too.
fn percent(value: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for digits in HEX {
        let encoded = |byte: u8| [b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
        let start = &value[..value.len().min(WINDOW)];
        found.push(start.iter().copied().flat_map(encoded).collect());
        for (kept, plus) in UNRESERVED.iter().flat_map(|kept| [(kept, false), (kept, true)]) {
            let spelled = |byte: &u8| match byte {
                b' ' if plus => vec![b'+'],
                byte if is_unreserved(*byte, kept) => vec![*byte],
                byte => encoded(*byte).to_vec(),
            };
            found.push(start.iter().flat_map(spelled).collect());
        }
    }
    found
}

fn is_unreserved(byte: u8, kept: &[u8]) -> bool {
    byte.is_ascii_alphanumeric() || kept.contains(&byte)
}

fn base64(value: &[u8], shift: u8, alphabet: &[u8; 64]) -> Vec<u8> {
    let skip = skipped_bits(shift);
    let count = WINDOW.min((value.len() * 8 - skip) / 6);
    (0..count).map(|n| alphabet[usize::from(sextet(value, skip + 6 * n))]).collect()
}

/// The digits in one piece, with a line break at each place, and with a separator behind each pair.
fn broken(digits: &[u8], separators: &[&str]) -> Vec<Vec<u8>> {
    let mut found = vec![digits.to_vec()];
    for at in 1..digits.len() {
        let (before, behind) = digits.split_at(at);
        found.extend(BREAKS.iter().map(|mark| [before, mark.as_bytes(), behind].concat()));
    }
    for separator in separators {
        found.push(digits.chunks(2).collect::<Vec<_>>().join(separator.as_bytes()));
    }
    found
}
