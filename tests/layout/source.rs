//! Imports of a source file, and the paths that it names, without its tests.

use crate::tokens::{Token, tokens};

/// One name of a `use`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// Path of what is imported; `*` for everything.
    pub(crate) path: Vec<String>,
    /// Name that it has here.
    pub(crate) name: String,
    /// True for a `pub use`.
    pub(crate) is_public: bool,
    /// Number of the line in the file, counted from 0.
    pub(crate) line: usize,
}

/// Imports and paths of a file that name other modules.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Modules declared here that have a file.
    pub(crate) children: Vec<String>,
    /// Its `use` items.
    pub(crate) uses: Vec<Use>,
    /// Other paths of at least two names, with their lines.
    pub(crate) paths: Vec<(Vec<String>, usize)>,
}

/// Items that end with a brace or a semicolon, never with a comma.
const ITEMS: [&str; 12] =
    ["pub", "fn", "impl", "struct", "enum", "mod", "const", "static", "trait", "type", "async", "unsafe"];

impl Source {
    /// Reads a file.
    pub(crate) fn parse(text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let mut source = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            at = source.item(&tokens, at);
        }
        source
    }

    /// Reads what begins here; returns the place after it.
    fn item(&mut self, tokens: &[Token], at: usize) -> usize {
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        match text(at) {
            "mod" if text(at + 2) == ";" => {
                self.children.push(text(at + 1).to_owned());
                at + 3
            }
            "use" => {
                let is_public = at > 0 && matches!(text(at - 1), "pub" | ")");
                let length =
                    tokens[at..].iter().position(|token| token.text == ";").unwrap_or(tokens.len() - at);
                self.add_uses(&tokens[at + 1..at + length], &[], is_public);
                at + length
            }
            _ if tokens[at].is_name() => {
                let mut path = vec![text(at).to_owned()];
                let mut end = at + 1;
                while text(end) == "::" && tokens.get(end + 1).is_some_and(Token::is_name) {
                    path.push(text(end + 1).to_owned());
                    end += 2;
                }
                // `<T as Trait>::name` and `x.name` are not paths from here.
                let is_rest = at > 0 && matches!(text(at - 1), "::" | ".");
                if path.len() > 1 && !is_rest {
                    self.paths.push((path, tokens[at].line));
                }
                end
            }
            _ => at + 1,
        }
    }

    /// Adds the names of a tree of imports: `a::{b, c::{self, d as e}}`.
    fn add_uses(&mut self, tree: &[Token], above: &[String], is_public: bool) {
        let mut path = above.to_vec();
        let mut name = None;
        let mut at = 0;
        while at < tree.len() {
            match tree[at].text.as_str() {
                "::" => {}
                "{" => {
                    // The tree ends with the brace that closes this one.
                    for branch in branches(&tree[at + 1..tree.len() - 1]) {
                        self.add_uses(branch, &path, is_public);
                    }
                    return;
                }
                "as" => {
                    name = tree.get(at + 1).map(|token| token.text.clone());
                    at += 1;
                }
                // `a::{self}` is `a`; `self::a` begins here.
                "self" if !path.is_empty() => {}
                text => path.push(text.to_owned()),
            }
            at += 1;
        }
        if let (Some(last), Some(token)) = (path.last().cloned(), tree.first()) {
            self.uses.push(Use { name: name.unwrap_or(last), path, is_public, line: token.line });
        }
    }
}

/// Splits at the commas outside of inner braces.
fn branches(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0;
    let parts = tokens.split(|token| {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token.text == ","
    });
    parts.filter(|part| !part.is_empty()).collect()
}

/// Removes what is compiled for tests alone.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let head: Vec<&str> = tokens[at..].iter().take(7).map(|token| token.text.as_str()).collect();
        if head == ["#", "[", "cfg", "(", "test", ")", "]"] {
            at = item_end(tokens, at + head.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns the end of the item that begins here.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut at = start;
    // Further attributes of the item.
    while word(at) == "#" {
        at += tokens[at..].iter().position(|token| token.text == "]").map_or(1, |close| close + 1);
    }
    let is_import = tokens[at..].iter().take(5).any(|token| token.text == "use");
    let has_commas = ITEMS.contains(&word(at));
    let mut depth = 0;
    while at < tokens.len() {
        match word(at) {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        // The brace that closes what contains the item: a last field or arm.
        if depth < 0 {
            return at;
        }
        at += 1;
        match word(at - 1) {
            "}" if depth == 0 && !is_import => return at,
            ";" if depth == 0 => return at,
            "," if depth == 0 && !has_commas => return at,
            _ => {}
        }
    }
    at
}

#[test]
fn imports_and_paths_are_found_and_those_of_tests_are_not() {
    let source = Source::parse(
        "use crate::{a::{self, B as C}, d::*};\npub(super) use self::e::F;\nmod g;\n#[cfg(test)]\nmod tests {\n    use super::no;\n}\n\
         #[cfg(test)]\npub use x::{Y, Z};\nfn f() {\n    g::h(super::i, k.l, <M as N>::o)\n}\n",
    );
    let uses: Vec<(String, &str, bool)> =
        source.uses.iter().map(|one| (one.path.join("::"), one.name.as_str(), one.is_public)).collect();
    let expected = [
        ("crate::a".to_owned(), "a", false),
        ("crate::a::B".to_owned(), "C", false),
        ("crate::d::*".to_owned(), "*", false),
        ("self::e::F".to_owned(), "F", true),
    ];
    assert_eq!(uses, expected);
    let paths: Vec<(String, usize)> =
        source.paths.iter().map(|(path, line)| (path.join("::"), *line)).collect();
    assert_eq!(paths, [("g::h".to_owned(), 10), ("super::i".to_owned(), 10)]);
    assert_eq!(source.children, ["g"]);
}
