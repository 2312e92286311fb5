//! Splits a command line into simple commands and their words, as a shell would, as far as classification needs. Pure.
//!
//! A line is split at `&&`, `||`, `;`, `|`, `&`, brackets and line breaks, outside of quotes. Redirections, comments
//! and the bodies of here-documents are dropped. The commands inside `$(…)`, backticks and `<(…)` become parts of their
//! own, before the part that contains them. Nothing is expanded. Unclosed constructs end with the line.

use super::delimiters::{after_bracket, after_next};

/// Maximum depth of nested substitutions.
const MAX_DEPTH: usize = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// The word as written.
    pub(super) raw: String,
    /// The word without its quotes.
    pub(super) text: String,
}

impl AsRef<str> for Word {
    /// Returns the word without its quotes.
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl Word {
    /// Creates a word from an argument of a process, quoted for people if necessary.
    pub(super) fn plain(text: &str) -> Self {
        let blank = text.is_empty() || text.contains(char::is_whitespace);
        let raw = if blank { shell_words::quote(text).into_owned() } else { text.to_owned() };
        Self { raw, text: text.to_owned() }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SimpleCommand {
    /// Words of the command, without redirections.
    pub(super) words: Vec<Word>,
    /// True for a command in a pipeline or a substitution, which passes its output on or reads that of another.
    pub(super) piped: bool,
}

pub(super) fn simple_commands(line: &str) -> Vec<SimpleCommand> {
    lex(line.chars().collect(), MAX_DEPTH, false)
}

fn lex(chars: Vec<char>, depth: usize, piped: bool) -> Vec<SimpleCommand> {
    let mut splitter = Lexer {
        chars,
        depth,
        in_substitution: piped,
        at: 0,
        commands: Vec::new(),
        command: SimpleCommand { words: Vec::new(), piped },
        word: None,
        target: None,
        documents: Vec::new(),
        condition: false,
    };
    splitter.run();
    splitter.commands
}

/// Kind of the word after a redirection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    File,
    Document,
}

struct Lexer {
    chars: Vec<char>,
    depth: usize,
    /// True if the whole text is inside a substitution.
    in_substitution: bool,
    at: usize,
    commands: Vec<SimpleCommand>,
    command: SimpleCommand,
    word: Option<Word>,
    target: Option<Target>,
    /// End markers of the here-documents that follow this line.
    documents: Vec<String>,
    /// True between `[[` and `]]`, where `&&` and `<` are no operators.
    condition: bool,
}

impl Lexer {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\r' => self.skip_blank(),
                '\n' => self.line_break(),
                '#' if self.word.is_none() => self.comment(),
                '\\' => self.escape(),
                '\'' => self.single_quotes(),
                '"' => self.double_quotes(),
                '$' | '`' => self.substitution(),
                _ if self.in_condition() => self.push(c),
                ';' | ')' => self.operator(1, false),
                '|' if self.peek(1) == Some('|') => self.operator(2, false),
                '|' => self.operator(if self.peek(1) == Some('&') { 2 } else { 1 }, true),
                '&' if self.peek(1) == Some('>') => self.redirection(),
                '&' => self.operator(if self.peek(1) == Some('&') { 2 } else { 1 }, false),
                '<' | '>' => self.redirection(),
                '(' => self.bracket(),
                _ => self.push(c),
            }
        }
        self.end_command(false);
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Skips a comment up to the line break, which is handled separately.
    fn comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    fn in_condition(&self) -> bool {
        self.condition && self.word.as_ref().is_none_or(|word| word.raw != "]]")
    }

    fn skip_blank(&mut self) {
        self.end_word();
        self.at += 1;
    }

    fn push(&mut self, c: char) {
        let word = self.word.get_or_insert_default();
        word.raw.push(c);
        word.text.push(c);
        self.at += 1;
    }

    /// Adds everything up to `end` to the word verbatim.
    fn push_to(&mut self, end: usize) {
        while self.at < end.min(self.chars.len()) {
            let c = self.chars[self.at];
            self.push(c);
        }
    }

    fn escape(&mut self) {
        let next = self.peek(1);
        self.at += 2;
        if next == Some('\n') {
            return;
        }
        let word = self.word.get_or_insert_default();
        word.raw.push('\\');
        word.raw.extend(next);
        word.text.extend(next);
    }

    fn single_quotes(&mut self) {
        let end = after_next(&self.chars, self.at + 1, '\'');
        let text: String = self.chars[self.at..end].iter().collect();
        let word = self.word.get_or_insert_default();
        word.raw.push_str(&text);
        word.text.push_str(text.trim_matches('\''));
        self.at = end;
    }

    fn double_quotes(&mut self) {
        self.word.get_or_insert_default().raw.push('"');
        self.at += 1;
        while let Some(c) = self.peek(0) {
            match c {
                '"' => {
                    self.word.get_or_insert_default().raw.push('"');
                    self.at += 1;
                    return;
                }
                '\\' => self.escape(),
                '$' | '`' => self.substitution(),
                _ => self.push(c),
            }
        }
    }

    /// Handles substitutions: `$(…)` and backticks run something; `$((…))`, `${…}` and `$x` don't.
    fn substitution(&mut self) {
        let (open, end, runs) = match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some('`'), ..) => (1, after_next(&self.chars, self.at + 1, '`'), true),
            (_, Some('('), third) => (2, after_bracket(&self.chars, self.at + 2, ')'), third != Some('(')),
            (_, Some('{'), _) => (2, after_bracket(&self.chars, self.at + 2, '}'), false),
            _ => (0, self.at + 1, false),
        };
        if runs {
            self.descend(self.at + open, end);
        }
        self.push_to(end);
    }

    /// Adds the commands between `from` and the bracket before `end` as parts of their own.
    fn descend(&mut self, from: usize, end: usize) {
        if self.depth > 0 {
            let inner = self.chars.get(from..end.saturating_sub(1)).unwrap_or_default().to_vec();
            self.commands.extend(lex(inner, self.depth - 1, true));
        }
    }

    fn bracket(&mut self) {
        let array = self.word.as_ref().is_some_and(|word| word.raw.ends_with('='));
        let sum = self.word.is_none() && self.peek(1) == Some('(');
        if array || sum {
            self.push_to(after_bracket(&self.chars, self.at + 1, ')'));
        } else {
            self.operator(1, false);
        }
    }

    /// Handles `> x`, `2>&1`, `<<EOF`, `<<< word` and `&> x`, whose next word is no argument, and `<(…)`, which is one.
    fn redirection(&mut self) {
        if self.peek(1) == Some('(') {
            let end = after_bracket(&self.chars, self.at + 2, ')');
            self.descend(self.at + 2, end);
            return self.push_to(end);
        }
        if self.word.as_ref().is_some_and(|word| word.raw.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        let begin = self.at;
        while self.at < begin + 3 && self.peek(0).is_some_and(|c| matches!(c, '<' | '>' | '&' | '|')) {
            self.at += 1;
        }
        let operator: String = self.chars[begin..self.at].iter().collect();
        self.target = Some(if operator == "<<" { Target::Document } else { Target::File });
        if operator == "<<" && self.peek(0) == Some('-') {
            self.at += 1;
        }
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        match self.target.take() {
            Some(Target::Document) => self.documents.push(word.text),
            Some(Target::File) => {}
            None => {
                self.condition = word.raw == "[[" || (self.condition && word.raw != "]]");
                self.command.words.push(word);
            }
        }
    }

    fn operator(&mut self, length: usize, pipe: bool) {
        self.end_command(pipe);
        self.at += length;
    }

    fn end_command(&mut self, pipe: bool) {
        self.end_word();
        self.target = None;
        self.condition = false;
        self.command.piped |= pipe;
        let next = SimpleCommand { words: Vec::new(), piped: self.in_substitution || pipe };
        let command = std::mem::replace(&mut self.command, next);
        if !command.words.is_empty() {
            self.commands.push(command);
        }
    }

    /// Ends the line and skips the here-documents that it announced.
    fn line_break(&mut self) {
        self.end_command(false);
        self.at += 1;
        for end in std::mem::take(&mut self.documents) {
            while self.at < self.chars.len() {
                let next = after_next(&self.chars, self.at, '\n');
                let line: String = self.chars[self.at..next].iter().collect();
                self.at = next;
                if line.trim() == end {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "shell_lexer_tests.rs"]
mod tests;
