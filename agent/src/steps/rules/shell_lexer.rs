//! Lexer that splits a command line into simple commands and words like a shell, as far as classification needs. Pure.
//!
//! A line is split at `&&`, `||`, `;`, `|`, `&`, brackets and line breaks, outside of quotes. Redirections, comments
//! and the bodies of here-documents are dropped. The commands inside `$(…)`, backticks and `<(…)` are returned as
//! separate commands before the one that contains them. Nothing is expanded. Unclosed constructs end with the line.

use super::delimiters::{index_after_bracket, index_after_char};

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
    /// Creates a word from an argument of a process, quoted for display if necessary.
    pub(super) fn from_argument(text: &str) -> Self {
        let needs_quotes = text.is_empty() || text.contains(char::is_whitespace);
        let raw = if needs_quotes { shell_words::quote(text).into_owned() } else { text.to_owned() };
        Self { raw, text: text.to_owned() }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SimpleCommand {
    /// Words of the command, without redirections.
    pub(super) words: Vec<Word>,
    /// True for a command in a pipeline or a substitution.
    pub(super) is_piped: bool,
}

pub(super) fn simple_commands(line: &str) -> Vec<SimpleCommand> {
    lex(line.chars().collect(), MAX_DEPTH, false)
}

fn lex(chars: Vec<char>, depth: usize, is_piped: bool) -> Vec<SimpleCommand> {
    let mut lexer = Lexer {
        chars,
        depth,
        is_in_substitution: is_piped,
        position: 0,
        commands: Vec::new(),
        current_command: SimpleCommand { words: Vec::new(), is_piped },
        current_word: None,
        redirection_target: None,
        here_document_markers: Vec::new(),
        is_in_double_brackets: false,
    };
    lexer.lex_all();
    lexer.commands
}

/// Kind of the word after a redirection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RedirectionTarget {
    File,
    HereDocument,
}

struct Lexer {
    chars: Vec<char>,
    depth: usize,
    /// True if the whole text is inside a substitution.
    is_in_substitution: bool,
    position: usize,
    commands: Vec<SimpleCommand>,
    current_command: SimpleCommand,
    current_word: Option<Word>,
    redirection_target: Option<RedirectionTarget>,
    /// End markers of the here-documents that follow the current line.
    here_document_markers: Vec<String>,
    /// True between `[[` and `]]`, where `&&` and `<` are not operators.
    is_in_double_brackets: bool,
}

impl Lexer {
    fn lex_all(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\r' => self.skip_blank(),
                '\n' => self.read_line_break(),
                '#' if self.current_word.is_none() => self.skip_comment(),
                '\\' => self.read_escape(),
                '\'' => self.read_single_quotes(),
                '"' => self.read_double_quotes(),
                '$' | '`' => self.read_substitution(),
                _ if self.is_in_condition() => self.push_char(c),
                ';' | ')' => self.read_operator(1, false),
                '|' if self.peek(1) == Some('|') => self.read_operator(2, false),
                '|' => self.read_operator(if self.peek(1) == Some('&') { 2 } else { 1 }, true),
                '&' if self.peek(1) == Some('>') => self.read_redirection(),
                '&' => self.read_operator(if self.peek(1) == Some('&') { 2 } else { 1 }, false),
                '<' | '>' => self.read_redirection(),
                '(' => self.read_bracket(),
                _ => self.push_char(c),
            }
        }
        self.end_command(false);
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.position + ahead).copied()
    }

    /// Skips a comment up to the line break, which is handled separately.
    fn skip_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.position += 1;
        }
    }

    fn is_in_condition(&self) -> bool {
        self.is_in_double_brackets && self.current_word.as_ref().is_none_or(|word| word.raw != "]]")
    }

    fn skip_blank(&mut self) {
        self.end_word();
        self.position += 1;
    }

    fn push_char(&mut self, c: char) {
        let word = self.current_word.get_or_insert_default();
        word.raw.push(c);
        word.text.push(c);
        self.position += 1;
    }

    /// Adds everything up to `end` to the word verbatim.
    fn push_until(&mut self, end: usize) {
        while self.position < end.min(self.chars.len()) {
            let c = self.chars[self.position];
            self.push_char(c);
        }
    }

    fn read_escape(&mut self) {
        let next = self.peek(1);
        self.position += 2;
        if next == Some('\n') {
            return;
        }
        let word = self.current_word.get_or_insert_default();
        word.raw.push('\\');
        word.raw.extend(next);
        word.text.extend(next);
    }

    fn read_single_quotes(&mut self) {
        let end = index_after_char(&self.chars, self.position + 1, '\'');
        let text: String = self.chars[self.position..end].iter().collect();
        let word = self.current_word.get_or_insert_default();
        word.raw.push_str(&text);
        word.text.push_str(text.trim_matches('\''));
        self.position = end;
    }

    fn read_double_quotes(&mut self) {
        self.current_word.get_or_insert_default().raw.push('"');
        self.position += 1;
        while let Some(c) = self.peek(0) {
            match c {
                '"' => {
                    self.current_word.get_or_insert_default().raw.push('"');
                    self.position += 1;
                    return;
                }
                '\\' => self.read_escape(),
                '$' | '`' => self.read_substitution(),
                _ => self.push_char(c),
            }
        }
    }

    /// Handles substitutions: `$(…)` and backticks run commands; `$((…))`, `${…}` and `$x` don't.
    fn read_substitution(&mut self) {
        let (open_length, end, runs_commands) = match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some('`'), ..) => (1, index_after_char(&self.chars, self.position + 1, '`'), true),
            (_, Some('('), third) => {
                (2, index_after_bracket(&self.chars, self.position + 2, ')'), third != Some('('))
            }
            (_, Some('{'), _) => (2, index_after_bracket(&self.chars, self.position + 2, '}'), false),
            _ => (0, self.position + 1, false),
        };
        if runs_commands {
            self.lex_nested(self.position + open_length, end);
        }
        self.push_until(end);
    }

    /// Adds the commands between `start` and the bracket before `end` as separate commands.
    fn lex_nested(&mut self, start: usize, end: usize) {
        if self.depth > 0 {
            let inner = self.chars.get(start..end.saturating_sub(1)).unwrap_or_default().to_vec();
            self.commands.extend(lex(inner, self.depth - 1, true));
        }
    }

    fn read_bracket(&mut self) {
        let is_array = self.current_word.as_ref().is_some_and(|word| word.raw.ends_with('='));
        let is_arithmetic = self.current_word.is_none() && self.peek(1) == Some('(');
        if is_array || is_arithmetic {
            self.push_until(index_after_bracket(&self.chars, self.position + 1, ')'));
        } else {
            self.read_operator(1, false);
        }
    }

    /// Handles `> x`, `2>&1`, `<<EOF`, `<<< word` and `&> x`, whose next word is not an argument, and `<(…)`, which is
    /// an argument.
    fn read_redirection(&mut self) {
        if self.peek(1) == Some('(') {
            let end = index_after_bracket(&self.chars, self.position + 2, ')');
            self.lex_nested(self.position + 2, end);
            return self.push_until(end);
        }
        if self.current_word.as_ref().is_some_and(|word| word.raw.chars().all(|c| c.is_ascii_digit())) {
            self.current_word = None;
        }
        self.end_word();
        let begin = self.position;
        while self.position < begin + 3 && self.peek(0).is_some_and(|c| matches!(c, '<' | '>' | '&' | '|')) {
            self.position += 1;
        }
        let operator: String = self.chars[begin..self.position].iter().collect();
        self.redirection_target =
            Some(if operator == "<<" { RedirectionTarget::HereDocument } else { RedirectionTarget::File });
        if operator == "<<" && self.peek(0) == Some('-') {
            self.position += 1;
        }
    }

    fn end_word(&mut self) {
        let Some(word) = self.current_word.take() else { return };
        match self.redirection_target.take() {
            Some(RedirectionTarget::HereDocument) => self.here_document_markers.push(word.text),
            Some(RedirectionTarget::File) => {}
            None => {
                self.is_in_double_brackets =
                    word.raw == "[[" || (self.is_in_double_brackets && word.raw != "]]");
                self.current_command.words.push(word);
            }
        }
    }

    fn read_operator(&mut self, length: usize, is_pipe: bool) {
        self.end_command(is_pipe);
        self.position += length;
    }

    fn end_command(&mut self, is_pipe: bool) {
        self.end_word();
        self.redirection_target = None;
        self.is_in_double_brackets = false;
        self.current_command.is_piped |= is_pipe;
        let next = SimpleCommand { words: Vec::new(), is_piped: self.is_in_substitution || is_pipe };
        let command = std::mem::replace(&mut self.current_command, next);
        if !command.words.is_empty() {
            self.commands.push(command);
        }
    }

    /// Ends the line, and skips the here-documents whose markers it contains.
    fn read_line_break(&mut self) {
        self.end_command(false);
        self.position += 1;
        for end in std::mem::take(&mut self.here_document_markers) {
            while self.position < self.chars.len() {
                let next = index_after_char(&self.chars, self.position, '\n');
                let line: String = self.chars[self.position..next].iter().collect();
                self.position = next;
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
