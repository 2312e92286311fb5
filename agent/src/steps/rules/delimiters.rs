//! Search for the end of quoted and bracketed parts of a command line. Pure; one pass, no recursion.

/// Returns the index after the bracket that closes the one before `from`, skipping quotes and nested substitutions; the
/// end of the text if it is never closed.
pub(super) fn after_bracket(chars: &[char], from: usize, closer: char) -> usize {
    let mut open = vec![closer];
    let mut at = from;
    while let Some(&c) = chars.get(at) {
        at += 1;
        let quoted = open.last() == Some(&'"');
        match c {
            '\\' => at += 1,
            _ if open.last() == Some(&c) => {
                open.pop();
                if open.is_empty() {
                    return at;
                }
            }
            '\'' if !quoted => at = after_next_char(chars, at, '\''),
            '"' => open.push('"'),
            '(' if !quoted || chars.get(at.wrapping_sub(2)) == Some(&'$') => open.push(')'),
            '{' if chars.get(at.wrapping_sub(2)) == Some(&'$') => open.push('}'),
            _ => {}
        }
    }
    chars.len()
}

/// Returns the index after the next `end`; the end of the text if there is none.
pub(super) fn after_next_char(chars: &[char], from: usize, end: char) -> usize {
    let rest = chars.get(from..).unwrap_or_default();
    rest.iter().position(|&c| c == end).map_or(chars.len(), |found| from + found + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_bracket_is_found_behind_quotes_and_nested_ones() {
        for (text, inside) in [
            ("a) b", "a)"),
            ("a (b) c) d", "a (b) c)"),
            ("echo \")\" ')' \\) ) x", "echo \")\" ')' \\) )"),
            ("echo \"$(echo \")\")\") x", "echo \"$(echo \")\")\")"),
            ("never closed", "never closed"),
            ("at the end \\", "at the end \\"),
        ] {
            let chars: Vec<char> = text.chars().collect();
            let end = after_bracket(&chars, 0, ')');
            assert_eq!(chars[..end].iter().collect::<String>(), inside, "{text}");
        }
    }
}
