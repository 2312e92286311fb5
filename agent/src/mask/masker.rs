//! Masker: finds secrets in a text and replaces them by markers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::compare::{Encoding, compare};
use super::index::PrefixIndex;
use super::prefix_match::Match;
use super::prefixes::{encoded_prefixes, plain_prefixes};
use super::secrets::{Secret, Secrets};

/// Minimum number of a secret's bytes at the end of a text that are masked although the rest of the secret is missing.
const MIN_PARTIAL: usize = 8;

/// Maximum number of prefixes of all secrets, which take 1 to 2 MiB. Further secrets are found only in plain form.
const MAX_PREFIXES: usize = 32 * 1024;

/// Candidate match: index of a secret, and an encoding.
type Candidate = (usize, Encoding);

/// Masker of the secrets of one job.
#[cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation uses the masker, too")
)]
#[derive(Default)]
pub struct Masker {
    secrets: Vec<Secret>,
    index: PrefixIndex<Candidate>,
}

/// Implemented by hand: the values must not get into a log.
impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

enum SearchResult<'a> {
    /// There is no secret in the rest of the text.
    NoMoreSecrets,
    /// A secret from `start` to `end`, and the marker that replaces it.
    Secret { start: usize, end: usize, marker: &'a str },
    /// There is no secret before this offset, but one may begin at it.
    Undecided(usize),
}

impl Masker {
    /// Creates a masker of secrets.
    pub(crate) fn new(secrets: Secrets) -> Self {
        let secrets: Vec<Secret> = secrets.values.into_iter().collect();
        let mut prefixes: BTreeMap<_, Vec<Candidate>> = BTreeMap::new();
        for (index, secret) in secrets.iter().enumerate() {
            let secret_prefixes = if prefixes.len() < MAX_PREFIXES {
                encoded_prefixes(&secret.value)
            } else {
                plain_prefixes(&secret.value)
            };
            for (beginning, encodings) in secret_prefixes {
                let candidates = encodings.into_iter().map(|encoding| (index, encoding));
                prefixes.entry(beginning).or_default().extend(candidates);
            }
        }
        Self { secrets, index: PrefixIndex::new(prefixes) }
    }

    /// Returns the memory that the masker takes, in bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.secrets.iter().map(|secret| secret.value.len()).sum::<usize>() + self.index.size()
    }

    /// Returns true if there is nothing to mask.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns a complete text without its secrets. A part of a secret at the end of the text is masked too.
    pub(crate) fn mask_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let body = text.trim_end_matches('…');
        let mut out = Vec::new();
        self.mask(body.as_bytes(), 0, true, &mut out);
        if out.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::from_utf8_lossy(&out).into_owned();
        out.push_str(&text[body.len()..]);
        Cow::Owned(out)
    }

    /// Masks the text after the first `shown_bytes`, which were already written, into `masked`; `masked` stays empty if
    /// nothing changes. Returns the offset at which the undecided rest of the text begins. In the last chunk of a text
    /// nothing is undecided.
    pub(super) fn mask(&self, text: &[u8], shown_bytes: usize, is_last: bool, masked: &mut Vec<u8>) -> usize {
        let mut at = 0;
        let mut written = shown_bytes;
        loop {
            let (plain_end, secret) = match self.next_secret(text, at, is_last) {
                SearchResult::Secret { start, end, marker } => (start, Some((end, marker))),
                SearchResult::NoMoreSecrets if written == 0 => return text.len(),
                SearchResult::NoMoreSecrets => (text.len(), None),
                SearchResult::Undecided(from) => (from, None),
            };
            if plain_end > written {
                masked.extend_from_slice(&text[written..plain_end]);
            }
            let Some((end, marker)) = secret else { return plain_end };
            masked.extend_from_slice(marker.as_bytes());
            at = end;
            written = end;
        }
    }

    fn next_secret(&self, text: &[u8], mut from: usize, is_last: bool) -> SearchResult<'_> {
        if self.is_empty() {
            return SearchResult::NoMoreSecrets;
        }
        while let Some((start, candidates)) = self.index.find(text, from) {
            let (mut longest, mut partial) = (None, None);
            let letter = decode_unicode_escape(&text[start..]);
            for (index, encoding) in candidates {
                let first = self.secrets[*index].value.as_bytes()[0];
                if letter.is_some_and(|letter| first != letter && first != b'\\') {
                    continue;
                }
                match compare(*encoding, &self.secrets[*index].value, &text[start..]) {
                    Match::Mismatch => {}
                    Match::Partial => partial = Some(*index),
                    Match::Complete(length) if longest.is_some_and(|(most, _)| most >= length) => {}
                    Match::Complete(length) => longest = Some((length, *index)),
                }
            }
            let partial = partial.filter(|_| !is_last || text.len() - start >= MIN_PARTIAL);
            let (end, index) = match (longest, partial) {
                (_, Some(_)) if !is_last => return SearchResult::Undecided(start),
                (_, Some(index)) => (text.len(), index),
                (Some((length, index)), None) => (start + length, index),
                (None, None) => {
                    from = start + 1;
                    continue;
                }
            };
            return SearchResult::Secret { start, end, marker: &self.secrets[index].marker };
        }
        let incomplete_start = if is_last { None } else { self.index.incomplete_prefix_start(text, from) };
        incomplete_start.map_or(SearchResult::NoMoreSecrets, SearchResult::Undecided)
    }
}

/// Returns the ASCII character that a leading escape `\u00XX` stands for. Any secret may be written with such an escape
/// first, and coloured output in JSON has many. Decoding each once is much faster than comparing it with every secret.
fn decode_unicode_escape(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"\\u00")?.first_chunk::<2>()?;
    let byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    byte.is_ascii().then_some(byte)
}
