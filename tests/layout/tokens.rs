//! The words of a source file, each with its line.

/// A word, a number, or a single character. `::` is one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its text.
    pub(crate) text: String,
    /// Its line, from 0.
    pub(crate) line: usize,
}

impl Token {
    /// Returns true for a name.
    pub(crate) fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Splits a source into tokens; comments, texts, characters and lifetimes are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 0);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let token: String = chars[at..end].iter().collect();
        let is_left_out = token.starts_with("//") || token.starts_with("/*") || token.contains(['"', '\'']);
        if !is_left_out && !token.trim().is_empty() {
            tokens.push(Token { text: token.clone(), line });
        }
        line += token.matches('\n').count();
        at = end;
    }
    tokens
}

/// Returns the end of the token that begins here.
fn token_end(chars: &[char], at: usize) -> usize {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    let second = chars.get(at + 1);
    match chars[at] {
        '/' if second == Some(&'/') => find(chars, at, "\n"),
        '/' if second == Some(&'*') => find(chars, at, "*/") + 2,
        ':' if second == Some(&':') => at + 2,
        '"' => text_end(chars, at),
        '\'' => quote_end(chars, at),
        c if is_word(&c) => {
            let end = at + chars[at..].iter().take_while(|c| is_word(c)).count();
            let word: String = chars[at..end].iter().collect();
            match (word.as_str(), chars.get(end)) {
                ("r" | "br", Some('"' | '#')) => raw_end(chars, end),
                ("b", Some('"')) => text_end(chars, end),
                ("b", Some('\'')) => quote_end(chars, end),
                _ => end,
            }
        }
        _ => at + 1,
    }
}

/// Returns the place of `what`, else the end.
fn find(chars: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    let found = chars[from..].windows(what.len()).position(|window| window == what);
    found.map_or(chars.len(), |found| from + found)
}

/// Returns the end of a text whose opening quote is here.
fn text_end(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

/// Returns the end of a raw text whose opening `#` or quote is here; of a raw name (`r#type`) that of the `#`.
fn raw_end(chars: &[char], at: usize) -> usize {
    let marks = chars[at..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + marks) != Some(&'"') {
        return at + 1;
    }
    let close = format!("\"{}", "#".repeat(marks));
    (find(chars, at + marks + 1, &close) + close.len()).min(chars.len())
}

/// Returns the end of a character or of a lifetime.
fn quote_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (find(chars, at + 3, "'") + 1).min(chars.len()),
        (_, Some('\'')) => at + 3,
        _ => at + 1 + chars[at + 1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
    }
}

#[test]
fn comments_and_texts_hold_no_tokens() {
    let text = "a/* b */::c \"d\\\"\" r#\"e\"f\"# 'g' '\\'' &'h i // j\nb'\"' k";
    let found = tokens(text);
    let texts: Vec<&str> = found.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["a", "::", "c", "&", "i", "k"]);
    assert_eq!(found.last().map(|token| token.line), Some(1));
}
