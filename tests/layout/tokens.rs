//! The words of a source file, each with its line.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A name or a single character. `::` is one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Splits a source into tokens; comments, literals and lifetimes are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let stream = text.parse();
    add(stream.unwrap_or_else(|error| panic!("not a source file: {error:?}")), &mut found);
    found
}

fn add(stream: TokenStream, found: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line - 1;
        let mut push = |text: String| found.push(Token { text, line });
        match tree {
            TokenTree::Literal(_) => {}
            TokenTree::Ident(name) => push(name.to_string()),
            TokenTree::Punct(mark) if mark.as_char() == '\'' => drop(trees.next()),
            TokenTree::Punct(mark) => {
                let is_path = mark.as_char() == ':' && mark.spacing() == Spacing::Joint;
                let second = trees.next_if(|next| is_path && matches!(next, TokenTree::Punct(_)));
                push(second.map_or_else(|| mark.to_string(), |_| "::".to_owned()));
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis | Delimiter::None => ("(", ")"),
                };
                push(open.to_owned());
                add(group.stream(), found);
                let line = group.span_close().start().line - 1;
                found.push(Token { text: close.to_owned(), line });
            }
        }
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
