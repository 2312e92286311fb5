//! The table of figures: rows, units and targets.

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
    /// CPU time, in percent of one core.
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
        // Three digits are enough for any figure, and three decimals for small ones.
        let digits = match self.value() {
            value if value >= 100.0 => 0,
            value if value >= 1.0 => 2,
            _ => 3,
        };
        f.pad(&format!("{:.digits$} {}", self.value(), self.unit()))
    }
}

/// Target of a figure: a promise of the design.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// At most this many times the figure of the row's peer.
    Times(f64),
    /// At most this value, in the figure's unit.
    AtMost(f64),
    /// At least this value, in the figure's unit.
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

/// One row of the table: a figure of relay, and perhaps the figure of a peer (a comparable tool) and a target.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    label: String,
    figure: Result<Figure, String>,
    peer: Option<(String, Result<Figure, String>)>,
    target: Option<Target>,
}

impl Row {
    /// Creates a row for a figure of relay.
    pub(crate) fn new(label: &str, figure: Figure) -> Self {
        Self { label: label.to_owned(), figure: Ok(figure), peer: None, target: None }
    }

    /// Adds the name and the figure of a peer, or the reason why there is no figure.
    pub(crate) fn beside(mut self, name: &str, figure: Result<Figure, String>) -> Self {
        self.peer = Some((name.to_owned(), figure));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        let (_, peer) = self.peer.as_ref()?;
        let (figure, peer) = (self.figure.as_ref().ok()?.value(), peer.as_ref().ok()?.value());
        (peer > 0.0).then_some(figure / peer)
    }

    fn reaches_target(&self) -> Option<bool> {
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
            Err(reason) => return write!(f, "{:<48} not measured: {reason}", self.label),
        };
        write!(f, "{:<48}{figure:>11}", self.label)?;
        let (name, peer_figure) = match &self.peer {
            Some((name, Ok(figure))) => (name.as_str(), figure.to_string()),
            Some((name, Err(reason))) => return write!(f, "   {name}: not measured: {reason}"),
            None => ("", String::new()),
        };
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2} ×"));
        let target = self.target.map_or(String::new(), |target| target.text(figure.unit()));
        let mark = self.reaches_target().map_or("", |is_reached| if is_reached { "✓" } else { "✗" });
        let line = format!("   {name:<19}{peer_figure:>11}{ratio:>9}   {target:<13} {mark}");
        f.write_str(line.trim_end())
    }
}

/// The whole table.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    has_failures: bool,
}

/// A line of the table.
#[derive(Debug)]
enum Line {
    /// Description of how the following rows were measured.
    Heading(String),
    Row(Row),
}

impl Report {
    /// Adds a description of how the following rows were measured.
    pub(crate) fn add_heading(&mut self, how: &str) {
        self.lines.push(Line::Heading(how.to_owned()));
    }

    /// Adds rows and a description of how they were measured.
    pub(crate) fn section(&mut self, how: &str, rows: impl IntoIterator<Item = Row>) {
        self.add_heading(how);
        self.lines.extend(rows.into_iter().map(Line::Row));
    }

    pub(crate) fn add_row(&mut self, row: Row) {
        self.lines.push(Line::Row(row));
    }

    /// Adds a row for a figure that could not be measured.
    pub(crate) fn add_failure(&mut self, label: &str, reason: &str) {
        self.has_failures = true;
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        self.add_row(Row { label: label.to_owned(), figure: Err(reason), peer: None, target: None });
    }

    /// Returns true if every figure of relay could be measured. Figures of peers may be missing.
    pub(crate) fn is_complete(&self) -> bool {
        !self.has_failures
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
