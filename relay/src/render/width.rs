//! Text in columns of a terminal: a wide character takes two columns.

use common::text_format::to_printable;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Returns the width of a text, in columns.
pub fn display_width(text: &str) -> usize {
    text.width()
}

/// Truncates a sanitized line like [`fit`], and keeps its indentation.
pub fn fit_sanitized(line: &str, columns: usize) -> String {
    let text = line.trim_start_matches(' ');
    let indent = (line.len() - text.len()).min(columns);
    format!("{:indent$}{}", "", fit(text, columns - indent))
}

/// Returns the first line of a text, sanitized, and truncated with `…` if it is wider than `columns`.
pub fn fit(text: &str, columns: usize) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let clean = to_printable(line);
    if display_width(&clean) <= columns {
        return clean;
    }
    let mut truncated = String::new();
    let mut used = 0;
    for c in clean.chars() {
        let char_width = c.width().unwrap_or(0);
        if used + char_width + 1 > columns {
            break;
        }
        used += char_width;
        truncated.push(c);
    }
    if columns > 0 {
        truncated.push('…');
    }
    truncated
}

/// Returns the text of [`fit`], padded with spaces to exactly `columns`.
pub fn pad(text: &str, columns: usize) -> String {
    let mut text = fit(text, columns);
    let gap = columns.saturating_sub(display_width(&text));
    text.extend(std::iter::repeat_n(' ', gap));
    text
}

/// Splits a line into parts that fit into `columns` each, between words if possible.
pub fn wrap(line: &str, columns: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let last_width = parts.last().map_or(0, |part| display_width(part));
        if last_width > 0 && last_width + display_width(word.trim_end()) > columns {
            parts.push(String::new());
        }
        for c in word.chars() {
            let last_width = parts.last().map_or(0, |part| display_width(part));
            // A space at the end of a line may exceed the width, because it is removed at the end.
            if last_width + c.width().unwrap_or(0) > columns.max(2) && c != ' ' {
                parts.push(String::new());
            }
            if let Some(part) = parts.last_mut() {
                part.push(c);
            }
        }
    }
    parts.iter().map(|part| part.trim_end().to_owned()).collect()
}

/// Returns a bar that is `columns` wide and full when `spent` reaches `limit`.
pub fn bar(spent: u64, limit: u64, columns: usize) -> String {
    let columns = u64::try_from(columns).unwrap_or(0);
    let full = spent.saturating_mul(columns).checked_div(limit).unwrap_or(columns).min(columns);
    (0..columns).map(|at| if at < full { '█' } else { '░' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_count_twice_and_no_text_is_wider_than_requested() {
        assert_eq!(fit("日本語のテスト", 7), "日本語…");
        assert_eq!(pad("日本", 6), "日本  ");
        assert_eq!(fit("\u{1b}[31mred\nmore", 80), "[31mred");
        for columns in 0..12 {
            assert_eq!(display_width(&pad("a日b本c語d", columns)), columns);
        }
    }

    #[test]
    fn lines_are_wrapped_between_words_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn a_bar_is_full_at_its_limit_and_beyond() {
        assert_eq!([bar(0, 8, 4), bar(5, 8, 4), bar(99, 8, 4), bar(1, 0, 2)], ["░░░░", "██░░", "████", "██"]);
    }
}
