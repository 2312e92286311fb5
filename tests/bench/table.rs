//! Rows, units and targets.

use std::fmt;

/// A figure with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Figure {
    /// Milliseconds.
    Millis(f64),
    /// Number per second.
    PerSecond(f64),
    /// 1024 × 1024 bytes.
    MiB(f64),
    /// Part of one core.
    Percent(f64),
}

impl Figure {
    fn value(self) -> f64 {
        match self {
            Self::Millis(value) | Self::PerSecond(value) | Self::MiB(value) | Self::Percent(value) => value,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Millis(_) => "ms",
            Self::PerSecond(_) => "/s",
            Self::MiB(_) => "MiB",
            Self::Percent(_) => "%",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Three digits are enough, and a thousandth of a percent.
        let digits = match self.value() {
            value if value >= 100.0 => 0,
            value if value >= 1.0 => 2,
            _ => 3,
        };
        f.pad(&format!("{:.digits$} {}", self.value(), self.unit()))
    }
}

/// A promise of the design.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// At most this many times the figure beside it.
    Times(f64),
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// At least this, in the figure's unit.
    AtLeast(f64),
}

impl Target {
    fn text(self, unit: &str) -> String {
        match self {
            Self::Times(times) if times < 0.1 => format!("≤ 1/{:.0} ×", times.recip()),
            Self::Times(times) => format!("≤ {times} ×"),
            Self::AtMost(most) => format!("≤ {most} {unit}"),
            Self::AtLeast(least) => format!("≥ {least} {unit}"),
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    what: String,
    figure: Result<Figure, String>,
    beside: Option<(String, Result<Figure, String>)>,
    target: Option<Target>,
}

impl Row {
    /// Creates a row for a figure of the product.
    pub(crate) fn new(what: &str, figure: Figure) -> Self {
        Self { what: what.to_owned(), figure: Ok(figure), beside: None, target: None }
    }

    /// Adds the figure to compare with, or the reason why there is none.
    pub(crate) fn beside(mut self, name: &str, figure: Result<Figure, String>) -> Self {
        self.beside = Some((name.to_owned(), figure));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        let (_, beside) = self.beside.as_ref()?;
        let (figure, beside) = (self.figure.as_ref().ok()?.value(), beside.as_ref().ok()?.value());
        (beside > 0.0).then_some(figure / beside)
    }

    fn reached(&self) -> Option<bool> {
        let figure = self.figure.as_ref().ok()?.value();
        match self.target? {
            Target::Times(times) => self.ratio().map(|ratio| ratio <= times),
            Target::AtMost(most) => Some(figure <= most),
            Target::AtLeast(least) => Some(figure >= least),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = match &self.figure {
            Ok(figure) => *figure,
            Err(reason) => return write!(f, "{:<48} not measured: {reason}", self.what),
        };
        write!(f, "{:<48}{figure:>11}", self.what)?;
        let (name, beside) = match &self.beside {
            Some((name, Ok(figure))) => (name.as_str(), figure.to_string()),
            Some((name, Err(reason))) => return write!(f, "   {name}: not measured: {reason}"),
            None => ("", String::new()),
        };
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2} ×"));
        let target = self.target.map_or(String::new(), |target| target.text(figure.unit()));
        let mark = self.reached().map_or("", |reached| if reached { "✓" } else { "✗" });
        let line = format!("   {name:<19}{beside:>11}{ratio:>9}   {target:<13} {mark}");
        f.write_str(line.trim_end())
    }
}

/// The complete output.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    broken: bool,
}

#[derive(Debug)]
enum Line {
    /// Description of how the rows below it were measured.
    Heading(String),
    Row(Row),
}

impl Report {
    /// Adds a description of how the following rows were measured.
    pub(crate) fn heading(&mut self, how: &str) {
        self.lines.push(Line::Heading(how.to_owned()));
    }

    /// Adds rows and a description of how they were measured.
    pub(crate) fn section(&mut self, how: &str, rows: impl IntoIterator<Item = Row>) {
        self.heading(how);
        self.lines.extend(rows.into_iter().map(Line::Row));
    }

    pub(crate) fn row(&mut self, row: Row) {
        self.lines.push(Line::Row(row));
    }

    /// Adds a row for a figure that could not be measured.
    pub(crate) fn broken(&mut self, what: &str, reason: &str) {
        self.broken = true;
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        let what = what.to_owned();
        self.row(Row { what, figure: Err(reason), beside: None, target: None });
    }

    /// Returns true if every figure of the product could be measured. A comparable tool that is not installed is no
    /// failure.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (measured, beside) = ("measured", "beside it");
        writeln!(f, "{:<48}{measured:>11}   {beside:<30}{:>9}   target", "", "ratio")?;
        for line in &self.lines {
            match line {
                Line::Heading(how) => writeln!(f, "\n{how}")?,
                Line::Row(row) => writeln!(f, "{row}")?,
            }
        }
        Ok(())
    }
}
