//! Rows with labels, which describe one job.

use common::text_format;

use super::{View, width};

/// Maximum length of a row's text, in bytes: at most three lines of a terminal.
pub const MAX_ROW_BYTES: usize = 240;
/// Width of a label and the space after it, in columns.
const LABEL_WIDTH: usize = 11;
/// Minimum width of wrapped text, in columns.
const MIN_TEXT_WIDTH: usize = 20;

/// Text about one job: a headline, and the rows that were added so far.
pub struct LabeledRows<'a> {
    pub view: &'a View,
    lines: Vec<String>,
}

impl<'a> LabeledRows<'a> {
    pub fn new(view: &'a View, headline: String) -> Self {
        Self { view, lines: vec![headline] }
    }

    /// Formats a single row without a headline.
    pub fn single_row(view: &'a View, label: &str, text: &str) -> String {
        let mut rows = Self { view, lines: Vec::new() };
        rows.add_untrusted(label, text);
        rows.finish()
    }

    pub fn add(&mut self, label: &str, text: &str) {
        self.add_row(label, text, str::to_owned);
    }

    /// Adds a row with styled text. On a terminal, long text is wrapped.
    pub fn add_row(&mut self, label: &str, text: &str, style: impl Fn(&str) -> String) {
        let Some(columns) = self.text_width() else {
            return self.add_unstyled(label, &style(text));
        };
        for (i, part) in width::wrap(text, columns).iter().enumerate() {
            self.add_unstyled(if i == 0 { label } else { "" }, &style(part));
        }
    }

    pub fn add_unstyled(&mut self, label: &str, text: &str) {
        let label = self.view.paint.dim(&format!("{label:<10}"));
        self.lines.push(format!("{label} {text}").trim_end().to_owned());
    }

    /// Returns the width of the text beside a label, in columns; `None` without a terminal.
    pub fn text_width(&self) -> Option<usize> {
        self.view.columns.map(|columns| columns.saturating_sub(LABEL_WIDTH).max(MIN_TEXT_WIDTH))
    }

    /// Adds a row of untrusted text.
    pub fn add_untrusted(&mut self, label: &str, text: &str) {
        self.add(label, &text_format::one_line(text, MAX_ROW_BYTES));
    }

    /// Adds a row of untrusted text that asks for attention.
    pub fn add_highlighted(&mut self, label: &str, text: &str) {
        let paint = self.view.paint;
        self.add_row(label, &text_format::one_line(text, MAX_ROW_BYTES), |part| paint.alarm(part));
    }

    /// Adds one row for each text; the first row has the label. The texts may be untrusted.
    pub fn add_list(&mut self, label: &str, texts: impl Iterator<Item = String>) {
        for (i, text) in texts.enumerate() {
            self.add_untrusted(if i == 0 { label } else { "" }, &text);
        }
    }

    /// Adds a line without a label.
    pub fn add_unlabeled(&mut self, line: String) {
        self.lines.push(line);
    }

    pub fn finish(self) -> String {
        self.lines.join("\n") + "\n"
    }
}
