//! Labelled rows: how one job is shown, whatever is told of it.

use common::text;

use super::View;

/// Longest text of a row, in bytes: at most three lines of a terminal.
pub(super) const ROW: usize = 240;

/// A headline and the rows so far.
pub(super) struct Rows<'a> {
    pub(super) view: &'a View,
    lines: Vec<String>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(view: &'a View, headline: String) -> Self {
        Self { view, lines: vec![headline] }
    }

    pub(super) fn add(&mut self, label: &str, text: &str) {
        let label = self.view.paint.dim(&format!("{label:<10}"));
        self.lines.push(format!("{label} {text}"));
    }

    /// A row of text that came from outside.
    pub(super) fn worker_text(&mut self, label: &str, text: &str) {
        self.add(label, &text::one_line(text, ROW));
    }

    /// A row that nobody should miss.
    pub(super) fn alarm(&mut self, label: &str, text: &str) {
        let text = self.view.paint.alarm(&text::one_line(text, ROW));
        self.add(label, &text);
    }

    /// Rows of which the first carries the label. Their text may come from outside.
    pub(super) fn list(&mut self, label: &str, texts: impl Iterator<Item = String>) {
        for (i, text) in texts.enumerate() {
            self.worker_text(if i == 0 { label } else { "" }, &text);
        }
    }

    /// A line without a label.
    pub(super) fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    pub(super) fn finish(self) -> String {
        self.lines.join("\n") + "\n"
    }
}
