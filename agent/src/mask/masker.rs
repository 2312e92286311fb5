//! Finds secrets in texts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::anchors::{self, anchors};
use super::compare::{Encoding, Seen, compare};
use super::secrets::{Secret, Secrets};

/// What may begin at an anchor: a secret, by its index, in an encoding.
type Candidate = (usize, Encoding);

/// Masks the secrets of one job.
#[derive(Default)]
pub(crate) struct Masker {
    secrets: Vec<Secret>,
    /// Sorted, each with what may begin with it.
    anchors: Vec<(Vec<u8>, Vec<Candidate>)>,
    automaton: Option<AhoCorasick>,
}

/// The values stay out of every log.
impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// What a search found.
pub(super) enum Next<'a> {
    /// Nothing more: all of the text is known.
    Nothing,
    /// A secret from `start` to `end`, and what stands in its place.
    Secret { start: usize, end: usize, marker: &'a str },
    /// Nothing before this place, from which on a secret may have begun.
    Undecided(usize),
}

impl Masker {
    /// Masks these.
    pub(crate) fn new(secrets: Secrets) -> Self {
        let secrets: Vec<Secret> = secrets.secrets.into_iter().collect();
        let mut found: BTreeMap<Vec<u8>, Vec<Candidate>> = BTreeMap::new();
        for (index, secret) in secrets.iter().enumerate() {
            for (anchor, encodings) in anchors(&secret.value) {
                found
                    .entry(anchor)
                    .or_default()
                    .extend(encodings.into_iter().map(|encoding| (index, encoding)));
            }
        }
        let sorted: Vec<_> = found.into_iter().collect();
        // A short anchor that begins a longer one is found in its place.
        let with_longer = |(at, (anchor, _)): (usize, &(Vec<u8>, Vec<Candidate>))| {
            let same = sorted[at..].iter().take_while(|(other, _)| other.starts_with(anchor));
            (anchor.clone(), same.flat_map(|(_, candidates)| candidates.iter().copied()).collect())
        };
        let anchors: Vec<(Vec<u8>, Vec<Candidate>)> = sorted.iter().enumerate().map(with_longer).collect();
        let automaton = (!anchors.is_empty()).then(|| {
            AhoCorasick::builder()
                // Small: each job has one of its own.
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                // The first that is given comes first: in their order a short one stands before what it begins.
                .match_kind(MatchKind::LeftmostFirst)
                .build(anchors.iter().map(|(anchor, _)| anchor))
        });
        let automaton = automaton.and_then(|built| match built {
            Ok(automaton) => Some(automaton),
            Err(error) => {
                // Only more states than 32 bits can number, which a spec has no room for.
                tracing::error!("secrets can't be masked: {error}");
                None
            }
        });
        Self { secrets, anchors, automaton }
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let values: usize = self.secrets.iter().map(|secret| secret.value.len()).sum();
        let candidates: usize =
            self.anchors.iter().map(|(anchor, found)| 64 + anchor.len() + 16 * found.len()).sum();
        values + candidates + self.automaton.as_ref().map_or(0, AhoCorasick::memory_usage)
    }

    /// Whether nothing is masked.
    pub(crate) fn is_empty(&self) -> bool {
        self.automaton.is_none()
    }

    /// A whole text without its secrets. One that ends within a secret, cut off there or not, loses that part too.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let body = text.trim_end_matches('…');
        let mut out = Vec::new();
        let known = self.mask(body.as_bytes(), 0, true, &mut out);
        if out.is_empty() && known == body.len() {
            return Cow::Borrowed(text);
        }
        let mut out = String::from_utf8_lossy(&out).into_owned();
        out.push_str(&text[body.len()..]);
        Cow::Owned(out)
    }

    /// Masks the text that follows `shown` bytes which are out already, into `out`; nothing is put there if all of it can
    /// stay as it is. Gives where what is not decided yet begins; with the last piece of a text everything is decided.
    pub(super) fn mask(&self, text: &[u8], shown: usize, last: bool, out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        let mut written = shown;
        loop {
            match self.next(text, at, last) {
                Next::Secret { start, end, marker } => {
                    if start > written {
                        out.extend_from_slice(&text[written..start]);
                    }
                    out.extend_from_slice(marker.as_bytes());
                    at = end;
                    written = end.max(written);
                }
                Next::Nothing if written == 0 => return text.len(),
                Next::Nothing => {
                    out.extend_from_slice(&text[written..]);
                    return text.len();
                }
                Next::Undecided(from) => {
                    if from > written {
                        out.extend_from_slice(&text[written..from]);
                    }
                    return from;
                }
            }
        }
    }

    fn next(&self, text: &[u8], mut at: usize, last: bool) -> Next<'_> {
        let Some(automaton) = &self.automaton else { return Next::Nothing };
        while let Some(found) = automaton.find(Input::new(text).range(at..)) {
            let start = found.start();
            let candidates = &self.anchors[found.pattern().as_usize()].1;
            let (mut longest, mut part) = (None, None);
            for (index, encoding) in candidates {
                match compare(*encoding, &self.secrets[*index].value, &text[start..]) {
                    Seen::Other => {}
                    Seen::Part => part = Some(*index),
                    Seen::Whole(length) if longest.is_some_and(|(most, _)| most >= length) => {}
                    Seen::Whole(length) => longest = Some((length, *index)),
                }
            }
            match (longest, part) {
                (_, Some(_)) if !last => return Next::Undecided(start),
                (Some((length, index)), None) => {
                    return Next::Secret { start, end: start + length, marker: &self.secrets[index].marker };
                }
                (_, Some(index)) => {
                    return Next::Secret { start, end: text.len(), marker: &self.secrets[index].marker };
                }
                (None, None) => at = start + 1,
            }
        }
        if last { Next::Nothing } else { self.begun(text, at) }
    }

    /// The longest end of the text that an anchor begins with.
    fn begun(&self, text: &[u8], at: usize) -> Next<'_> {
        let first = text.len().saturating_sub(anchors::LONGEST - 1).max(at);
        let begins = |from: &usize| {
            let end = &text[*from..];
            let place = self.anchors.partition_point(|(anchor, _)| anchor.as_slice() < end);
            self.anchors.get(place).is_some_and(|(anchor, _)| anchor.starts_with(end))
        };
        (first..text.len()).find(begins).map_or(Next::Nothing, Next::Undecided)
    }
}
