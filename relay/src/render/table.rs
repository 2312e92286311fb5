//! Table with a header and rows, aligned in columns.

use super::{Paint, width};

/// Gap between two columns.
const COLUMN_GAP: &str = "  ";

/// Formats a table. Every row has as many cells as the header.
pub fn format_table<const N: usize>(header: [&str; N], rows: &[[String; N]], paint: Paint) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| width::display_width(&row[column]));
        cells.chain([header[column].len()]).max().unwrap_or(0)
    });
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, columns)| width::pad(cell, columns));
        padded.collect::<Vec<_>>().join(COLUMN_GAP).trim_end().to_owned()
    };
    let head = paint.dim(&line(&header.map(str::to_owned)));
    std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>().join("\n") + "\n"
}
