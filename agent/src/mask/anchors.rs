//! The first bytes of a value in each of its encodings: what the automaton looks for.

use std::collections::BTreeMap;

use super::compare::{Encoding, nibble, sextet, skipped_bits, spellings};

/// Longest anchor, in bytes: rare enough in any text that the comparison behind it costs nothing.
pub(super) const LONGEST: usize = 8;
/// JSON inside JSON inside JSON: a tool's answer in a command's output in Codex's own lines.
const JSON_DEPTH: u8 = 3;
/// Line breaks of `base64` and `xxd`, as they are and inside JSON.
const BREAKS: [&str; 3] = ["\n", "\\n", "\r\n"];

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: [&[u8; 16]; 2] = [b"0123456789abcdef", b"0123456789ABCDEF"];
/// Bytes that percent-encoders leave alone, from the strictest to the most generous.
const UNRESERVED: [&[u8]; 5] = [b"-_.~", b"-_.", b"-_.~/", b"-_.~!'()*", b"-_.~!'()*/:@&=+$,;"];

/// The anchors of a value, each with the encodings that begin with it.
pub(super) fn anchors(value: &str) -> BTreeMap<Vec<u8>, Vec<Encoding>> {
    let mut anchors: BTreeMap<Vec<u8>, Vec<Encoding>> = BTreeMap::new();
    let mut add = |mut anchor: Vec<u8>, encoding| {
        anchor.truncate(LONGEST);
        let encodings = anchors.entry(anchor).or_default();
        if !encodings.contains(&encoding) {
            encodings.push(encoding);
        }
    };
    add(value.as_bytes().to_vec(), Encoding::Plain);
    if value.chars().any(|c| !c.is_ascii() || c.is_ascii_control() || "\"\\/<>&'".contains(c)) {
        for depth in 1..=JSON_DEPTH {
            for anchor in json(value, depth) {
                add(anchor, Encoding::Json(depth));
            }
        }
    }
    for anchor in percent(value.as_bytes()) {
        add(anchor, Encoding::Percent);
    }
    for shift in 0..3 {
        for alphabet in [STANDARD, URL_SAFE] {
            for anchor in broken(&base64(value.as_bytes(), shift, alphabet), &[]) {
                add(anchor, Encoding::Base64(shift));
            }
        }
    }
    for digits in HEX {
        let count = LONGEST.min(value.len() * 2);
        let hex: Vec<u8> = (0..count).map(|n| digits[usize::from(nibble(value.as_bytes(), n))]).collect();
        for anchor in broken(&hex, &[" ", ":"]) {
            add(anchor, Encoding::Hex);
        }
    }
    anchors
}

/// The beginnings that JSON encoders give it: each escapes in a way of its own.
fn json(value: &str, depth: u8) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for style in 0..24_u8 {
        let (unicode, html, slash, all) =
            (style % 3, style / 3 % 2 == 1, style / 6 % 2 == 1, style / 12 == 1);
        let mut anchor = Vec::new();
        for c in value.chars().take(LONGEST) {
            let mut spellings = spellings(c, depth);
            let (upper, lower) = (spellings.pop(), spellings.pop());
            let escaped = if unicode == 2 { upper } else { lower };
            let special = all && !c.is_ascii_alphanumeric()
                || html && "<>&'".contains(c)
                || unicode > 0 && !c.is_ascii();
            let at = if slash && c == '/' { 1 } else { 0 };
            let usual = spellings.into_iter().nth(at).filter(|_| !special);
            anchor.extend(usual.or(escaped).unwrap_or_default());
        }
        found.push(anchor);
    }
    found
}

/// The beginnings that percent-encoders give it, with every byte encoded too.
fn percent(value: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for digits in HEX {
        let encoded = |byte: u8| [b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
        let start = &value[..value.len().min(LONGEST)];
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
    let count = LONGEST.min((value.len() * 8 - skip) / 6);
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
