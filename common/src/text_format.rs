//! Functions that shorten untrusted text and remove dangerous characters from it.

/// Truncates `text` to at most `max_bytes` bytes at a character boundary. A truncated text ends with `…` (3 bytes).
pub fn truncate(text: &str, max_bytes: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mut end = max_bytes.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

/// Returns the first line of `text` that is not blank, without control characters and truncated to `max_bytes` bytes.
pub fn one_line(text: &str, max_bytes: usize) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    truncate(&to_printable(line), max_bytes)
}

/// Returns `text` with tabs as spaces and without any other control character (also line breaks), bidirectional or
/// invisible formatting character, so that it can't affect the terminal or page that shows it.
pub fn to_printable(text: &str) -> String {
    if is_printable_ascii(text) {
        return text.to_owned();
    }
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|&c| !is_dangerous(c)).collect()
}

/// Like [`to_printable`], but keeps line breaks.
pub fn to_printable_lines(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|&c| c == '\n' || !is_dangerous(c)).collect()
}

/// Returns `text` with every control, bidirectional or invisible formatting character written as `\u{HEX}`.
pub fn escape_invisible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Returns true for a text of only printable ASCII, which contains no dangerous character. Most texts are like this.
pub fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Returns true for C0 and C1 controls, bidirectional overrides and isolates, line and paragraph separators, zero-width
/// marks, and the invisible tags and selectors that can hide text from people but not from language models.
pub(crate) fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
        || matches!(c, '\u{AD}' | '\u{180E}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        assert_eq!(escape_invisible("a\n\u{202e}b\u{200b} ä"), "a\\u{a}\\u{202e}b\\u{200b} ä");
    }

    #[test]
    fn a_truncated_text_has_whole_characters_and_keeps_the_limit() {
        assert_eq!(truncate("äöü", 6), "äöü");
        assert_eq!(truncate("äöüß", 7), "äö…");
        assert!(truncate("äöüß", 2).len() <= 3);
    }

    #[test]
    fn terminal_escapes_and_bidirectional_marks_are_removed() {
        let hostile = "a\x1b]52;c;AAAA\x07b\u{9b}31mc\u{202e}d\re\tf";
        assert_eq!(to_printable(hostile), "a]52;c;AAAAb31mcde f");
        assert_eq!(to_printable_lines("a\nb\x1bc"), "a\nbc");
        assert_eq!(to_printable("a\u{e0049}\u{fe01}\u{ad}b"), "ab");
        assert_eq!(one_line("\n \n first \n second", 80), "first");
    }
}
