//! Labelled rows: how one job is shown, whatever is told of it.

use common::text;

use super::{View, width};

/// Longest text of a row, in bytes: at most three lines of a terminal.
pub(super) const ROW: usize = 240;
/// Columns of a label and the space behind it.
const LABEL: usize = 11;
/// Narrower than this, text is not broken into still shorter lines.
const NARROW: usize = 20;

/// A headline and the rows so far.
pub(super) struct Rows<'a> {
    pub(super) view: &'a View,
    lines: Vec<String>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(view: &'a View, headline: String) -> Self {
        Self { view, lines: vec![headline] }
    }

    /// One row alone.
    pub(super) fn single(view: &'a View, label: &str, text: &str) -> String {
        let mut rows = Self { view, lines: Vec::new() };
        rows.worker_text(label, text);
        rows.finish()
    }

    pub(super) fn add(&mut self, label: &str, text: &str) {
        self.put(label, text, str::to_owned);
    }

    /// A row whose text is coloured. On a terminal long text goes on below itself.
    pub(super) fn put(&mut self, label: &str, text: &str, brush: impl Fn(&str) -> String) {
        let Some(columns) = self.room() else {
            return self.line(label, &brush(text));
        };
        for (i, part) in width::wrap(text, columns).iter().enumerate() {
            self.line(if i == 0 { label } else { "" }, &brush(part));
        }
    }

    /// A row as it is.
    pub(super) fn line(&mut self, label: &str, text: &str) {
        let label = self.view.paint.dim(&format!("{label:<10}"));
        self.lines.push(format!("{label} {text}").trim_end().to_owned());
    }

    /// Columns beside a label; `None` where there is no terminal.
    pub(super) fn room(&self) -> Option<usize> {
        self.view.columns.map(|columns| columns.saturating_sub(LABEL).max(NARROW))
    }

    /// A row of text that came from outside.
    pub(super) fn worker_text(&mut self, label: &str, text: &str) {
        self.add(label, &text::one_line(text, ROW));
    }

    /// A row that nobody should miss.
    pub(super) fn alarm(&mut self, label: &str, text: &str) {
        let paint = self.view.paint;
        self.put(label, &text::one_line(text, ROW), |part| paint.alarm(part));
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
