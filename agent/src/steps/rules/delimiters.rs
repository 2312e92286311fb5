//! Search for the end of quoted and bracketed parts of a command line. Pure; one pass, no recursion.

/// Returns the index after the bracket that closes the bracket before `start`. Skips quotes and nested substitutions.
/// Returns the end of the text if the bracket is never closed.
pub(super) fn index_after_bracket(chars: &[char], start: usize, closer: char) -> usize {
    let mut open_closers = vec![closer];
    let mut at = start;
    while let Some(&c) = chars.get(at) {
        at += 1;
        let is_quoted = open_closers.last() == Some(&'"');
        match c {
            '\\' => at += 1,
            _ if open_closers.last() == Some(&c) => {
                open_closers.pop();
                if open_closers.is_empty() {
                    return at;
                }
            }
            '\'' if !is_quoted => at = index_after_char(chars, at, '\''),
            '"' => open_closers.push('"'),
            '(' if !is_quoted || chars.get(at.wrapping_sub(2)) == Some(&'$') => open_closers.push(')'),
            '{' if chars.get(at.wrapping_sub(2)) == Some(&'$') => open_closers.push('}'),
            _ => {}
        }
    }
    chars.len()
}

/// Returns the index after the next `end` at or after `start`; the end of the text if there is none.
pub(super) fn index_after_char(chars: &[char], start: usize, end: char) -> usize {
    let rest = chars.get(start..).unwrap_or_default();
    rest.iter().position(|&c| c == end).map_or(chars.len(), |found| start + found + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_bracket_is_found_after_quotes_and_nested_brackets() {
        for (text, bracketed) in [
            ("a) b", "a)"),
            ("a (b) c) d", "a (b) c)"),
            ("echo \")\" ')' \\) ) x", "echo \")\" ')' \\) )"),
            ("echo \"$(echo \")\")\") x", "echo \"$(echo \")\")\")"),
            ("never closed", "never closed"),
            ("at the end \\", "at the end \\"),
        ] {
            let chars: Vec<char> = text.chars().collect();
            let end = index_after_bracket(&chars, 0, ')');
            assert_eq!(chars[..end].iter().collect::<String>(), bracketed, "{text}");
        }
    }
}
