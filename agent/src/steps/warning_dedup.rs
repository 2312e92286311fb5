//! Deduplication of repeated warnings: equal texts are reported once a minute. Pure.

use std::time::Duration;

/// Time during which an equal text is not reported again.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
/// Maximum number of remembered texts. Codex has a handful of different warnings. If there are more, the oldest is
/// forgotten and may be reported again.
const MAX_TEXTS: usize = 32;

/// Recently reported texts.
#[derive(Debug, Default)]
pub(crate) struct WarningDedup {
    reported: Vec<(String, Duration)>,
}

impl WarningDedup {
    /// Returns true if a text should be reported at `now`. Texts that differ only in their numbers are equal.
    pub(crate) fn is_new(&mut self, now: Duration, text: &str) -> bool {
        let shape = without_numbers(text);
        self.reported.retain(|(_, at)| now.saturating_sub(*at) < REPEAT_AFTER);
        if self.reported.iter().any(|(told, _)| *told == shape) {
            return false;
        }
        if self.reported.len() == MAX_TEXTS {
            self.reported.remove(0);
        }
        self.reported.push((shape, now));
        true
    }
}

/// Returns the text with each number replaced by one `0`.
fn without_numbers(text: &str) -> String {
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
    fn an_equal_text_is_told_once_a_minute_and_another_one_at_once() {
        let mut notices = WarningDedup::default();
        let told: Vec<bool> = [
            (0, "retry 1/5 (503)"),
            (1, "retry 12/5 (503)"),
            (2, "boom"),
            (59, "retry 9/5 (500)"),
            (60, "retry 3/5 (503)"),
        ]
        .map(|(at, text)| notices.is_new(s(at), text))
        .to_vec();
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[test]
    fn a_flood_of_different_texts_takes_no_room() {
        let mut notices = WarningDedup::default();
        for n in 0..1000_u32 {
            let letters: String = n.to_string().bytes().map(|b| char::from(b'a' + b - b'0')).collect();
            assert!(notices.is_new(s(1), &letters), "{letters}");
        }
        assert_eq!(notices.reported.len(), MAX_TEXTS);
    }
}
