//! Text of the pane that shows the selected job.

use common::record::JobRecord;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::model::{Model, Pane};
use super::style::{self, Theme};
use crate::render::{Paint, View, health, status, width};

/// Width of a label in the text of a status, in columns.
const LABEL_WIDTH: usize = 11;

pub(super) fn pane_title(model: &Model) -> String {
    let pane_name = match model.pane {
        Pane::Closed => return String::new(),
        Pane::Status => "details",
        Pane::Log => "log",
        Pane::Events => "events",
    };
    let job = model.selected_job.as_ref().map_or_else(|| "no job".to_owned(), ToString::to_string);
    let scrolled = if model.scroll > 0 { ", scrolled" } else { "" };
    format!(" {job} {pane_name}{scrolled} ")
}

/// Returns the lines of the pane, as many as fit.
pub(super) fn pane_lines(model: &Model, area: Rect, theme: Theme) -> Vec<Line<'static>> {
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    match (model.pane, model.selected_record()) {
        (Pane::Closed, _) | (_, None) => Vec::new(),
        (Pane::Status, Some(record)) => status_lines(model, record, columns, rows, theme),
        (Pane::Log | Pane::Events, Some(_)) => followed_lines(model, columns, rows),
    }
}

/// Returns the text of `relay status`, the advice, and the end of the log if there is space.
fn status_lines(
    model: &Model,
    record: &JobRecord,
    columns: usize,
    rows: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let view = View { columns: Some(columns), paint: Paint::new(false), ..model.update.view.clone() };
    let block = status::render_status(record, &view);
    let mut label = String::new();
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (i, line) in block.lines().enumerate() {
        let line = width::fit_sanitized(line, columns);
        if i == 0 {
            lines.push(Line::styled(line, theme.state_style(record.state).patch(style::bold())));
            continue;
        }
        let split = line.char_indices().nth(LABEL_WIDTH).map_or(line.len(), |(at, _)| at);
        let (head, text) = line.split_at(split);
        if !head.trim().is_empty() {
            head.trim().clone_into(&mut label);
        }
        let style = match label.as_str() {
            "error" | "warning" | "link" if !text.starts_with("connected") => theme.alarm_style(),
            "health" | "step" => theme.health_style(health::health(record, &view).word),
            _ => ratatui::style::Style::new(),
        };
        lines.push(Line::from(vec![
            Span::styled(head.to_owned(), style::dim()),
            Span::styled(text.to_owned(), style),
        ]));
    }
    for (i, advice) in model.update.advice.iter().enumerate() {
        for (j, part) in
            width::wrap(advice, columns.saturating_sub(LABEL_WIDTH).max(8)).into_iter().enumerate()
        {
            let head = if i + j == 0 { "try" } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!("{head:<LABEL_WIDTH$}"), style::dim()),
                Span::raw(part),
            ]));
        }
    }
    let free_rows = rows.saturating_sub(lines.len() + 1);
    if free_rows > 0 && model.scroll == 0 && !model.update.newest_log_lines.is_empty() {
        lines.push(Line::styled(width::fit_sanitized(&"─".repeat(columns.min(40)), columns), style::dim()));
        let from = model.update.newest_log_lines.len().saturating_sub(free_rows);
        lines.extend(
            model.update.newest_log_lines[from..]
                .iter()
                .map(|line| Line::raw(width::fit_sanitized(line, columns))),
        );
    }
    let skipped = model.scroll.min(lines.len().saturating_sub(rows));
    lines.into_iter().skip(skipped).take(rows).collect()
}

/// Returns the last lines of the log or of the events, scrolled up by `model.scroll` lines.
fn followed_lines(model: &Model, columns: usize, rows: usize) -> Vec<Line<'static>> {
    let lines = &model.update.newest_log_lines;
    if lines.is_empty() {
        return vec![Line::styled(width::fit_sanitized("nothing yet", columns), style::dim())];
    }
    let end = lines.len().saturating_sub(model.scroll).max(rows.min(lines.len()));
    let from = end.saturating_sub(rows);
    lines[from..end].iter().map(|line| Line::raw(width::fit_sanitized(line, columns))).collect()
}
