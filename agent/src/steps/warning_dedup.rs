//! Deduplication of repeated warnings: equal texts are reported at most once a minute. Pure.

use std::time::Duration;

/// Time during which an equal text is not reported again.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of remembered texts. Codex has a handful of different warnings. If there are more, the oldest is
/// forgotten and may be reported again.
const MAX_TEXTS: usize = 32;

/// Filter of warnings, with the recently reported texts.
#[derive(Debug, Default)]
pub(crate) struct WarningDedup {
    reported_texts: Vec<(String, Duration)>,
}

impl WarningDedup {
    /// Remembers a text; returns true if it should be reported at `now`. Texts that differ only in their numbers are
    /// equal.
    pub(crate) fn note_text(&mut self, now: Duration, text: &str) -> bool {
        let shape = replace_numbers(text);
        self.reported_texts.retain(|(_, at)| now.saturating_sub(*at) < REPEAT_INTERVAL);
        if self.reported_texts.iter().any(|(reported, _)| *reported == shape) {
            return false;
        }
        if self.reported_texts.len() == MAX_TEXTS {
            self.reported_texts.remove(0);
        }
        self.reported_texts.push((shape, now));
        true
    }
}

/// Returns the text with each number replaced by one `0`.
fn replace_numbers(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if shape.ends_with('0') => {}
            '0'..='9' => shape.push('0'),
            c => shape.push(c),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn an_equal_text_is_reported_once_a_minute_and_another_one_at_once() {
        let mut dedup = WarningDedup::default();
        let results: Vec<bool> = [
            (0, "retry 1/5 (503)"),
            (1, "retry 12/5 (503)"),
            (2, "boom"),
            (59, "retry 9/5 (500)"),
            (60, "retry 3/5 (503)"),
        ]
        .map(|(at, text)| dedup.note_text(s(at), text))
        .to_vec();
        assert_eq!(results, [true, false, true, false, true]);
    }

    #[test]
    fn the_number_of_remembered_texts_is_bounded() {
        let mut dedup = WarningDedup::default();
        for n in 0..1000_u32 {
            let letters: String = n.to_string().bytes().map(|b| char::from(b'a' + b - b'0')).collect();
            assert!(dedup.note_text(s(1), &letters), "{letters}");
        }
        assert_eq!(dedup.reported_texts.len(), MAX_TEXTS);
    }
}
