//! Pane of the selected job.

use common::record::JobRecord;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::model::{Model, Pane};
use super::style::{self, Theme};
use crate::render::{Paint, View, health, status, width};

/// Width of a label in the text of a status, in columns.
const LABEL_WIDTH: usize = 11;

pub(super) fn title(model: &Model) -> String {
    let what = match model.pane {
        Pane::Closed => return String::new(),
        Pane::Status => "details",
        Pane::Log => "log",
        Pane::Events => "events",
    };
    let job = model.selected.as_ref().map_or_else(|| "no job".to_owned(), ToString::to_string);
    let back = if model.scroll > 0 { ", scrolled" } else { "" };
    format!(" {job} {what}{back} ")
}

/// Returns the lines that fit into the pane.
pub(super) fn lines(model: &Model, area: Rect, look: Theme) -> Vec<Line<'static>> {
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    match (model.pane, model.record()) {
        (Pane::Closed, _) | (_, None) => Vec::new(),
        (Pane::Status, Some(record)) => details(model, record, columns, rows, look),
        (Pane::Log | Pane::Events, Some(_)) => followed_lines(model, columns, rows),
    }
}

/// Returns the text of `relay status`, the advice, and the end of the log if there is space.
fn details(
    model: &Model,
    record: &JobRecord,
    columns: usize,
    rows: usize,
    look: Theme,
) -> Vec<Line<'static>> {
    let view = View { columns: Some(columns), paint: Paint::new(false), ..model.update.view.clone() };
    let block = status::render_status(record, &view);
    let mut label = String::new();
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (i, line) in block.lines().enumerate() {
        let line = width::fit_sanitized(line, columns);
        if i == 0 {
            lines.push(Line::styled(line, look.state(record.state).patch(style::bold())));
            continue;
        }
        let split = line.char_indices().nth(LABEL_WIDTH).map_or(line.len(), |(at, _)| at);
        let (head, text) = line.split_at(split);
        if !head.trim().is_empty() {
            head.trim().clone_into(&mut label);
        }
        let style = match label.as_str() {
            "error" | "warning" | "link" if !text.starts_with("connected") => look.alarm(),
            "health" | "step" => look.health(health::health(record, &view).word),
            _ => ratatui::style::Style::new(),
        };
        lines.push(Line::from(vec![
            Span::styled(head.to_owned(), style::dim()),
            Span::styled(text.to_owned(), style),
        ]));
    }
    for (i, tried) in model.update.advice.iter().enumerate() {
        for (j, part) in
            width::wrap(tried, columns.saturating_sub(LABEL_WIDTH).max(8)).into_iter().enumerate()
        {
            let head = if i + j == 0 { "try" } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!("{head:<LABEL_WIDTH$}"), style::dim()),
                Span::raw(part),
            ]));
        }
    }
    let room = rows.saturating_sub(lines.len() + 1);
    if room > 0 && model.scroll == 0 && !model.update.tail.is_empty() {
        lines.push(Line::styled(width::fit_sanitized(&"─".repeat(columns.min(40)), columns), style::dim()));
        let from = model.update.tail.len().saturating_sub(room);
        lines.extend(
            model.update.tail[from..].iter().map(|line| Line::raw(width::fit_sanitized(line, columns))),
        );
    }
    let skipped = model.scroll.min(lines.len().saturating_sub(rows));
    lines.into_iter().skip(skipped).take(rows).collect()
}

/// Returns the last lines of the log or events, scrolled up by `scroll` lines.
fn followed_lines(model: &Model, columns: usize, rows: usize) -> Vec<Line<'static>> {
    let tail = &model.update.tail;
    if tail.is_empty() {
        return vec![Line::styled(width::fit_sanitized("nothing yet", columns), style::dim())];
    }
    let end = tail.len().saturating_sub(model.scroll).max(rows.min(tail.len()));
    let from = end.saturating_sub(rows);
    tail[from..end].iter().map(|line| Line::raw(width::fit_sanitized(line, columns))).collect()
}
