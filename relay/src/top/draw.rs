//! Drawing of a frame: header, list of jobs, pane of the selected job, and footer.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::detail;
use super::keys::Mode;
use super::model::{Model, Pane};
use super::rows::Columns;
use super::style::{self, Theme};
use crate::render::{jobs_tty, width};
use crate::times::format_clock;

/// Minimum size of a usable screen: columns and rows.
const MIN_SIZE: (u16, u16) = (30, 6);
/// Minimum height of the area between header and footer that has space for details below the list, in rows.
const MIN_PANE_HEIGHT: u16 = 14;
/// Minimum width of a screen that shows the pane beside the list, in columns. The list then takes 55 % of the screen,
/// which is enough for all columns of the list.
const MIN_WIDTH_FOR_PANE_BESIDE: u16 = 290;

/// Key hints for the last line, most important first.
const KEY_HINTS: [&str; 9] =
    ["q quit", "? help", "↑↓ select", "enter details", "l log", "e events", "c cancel", "x +10m", "/ filter"];

const KEY_HELP: &[(&str, &str)] = &[
    ("↑ ↓ j k", "select a job (Home End: first, last)"),
    ("enter", "details on and off"),
    ("l  e", "its log, its events"),
    ("PgUp PgDn", "scroll the details or the log"),
    ("c", "cancel the job (asks first)"),
    ("x", "10m more for its step, or for the job"),
    ("/", "list only matching jobs (esc: all)"),
    ("ctrl-l", "redraw the screen"),
    ("q", "quit; ctrl-z: back to the shell, fg returns"),
];

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) {
    let theme = Theme { has_color: model.update.view.paint.is_enabled() };
    let area = frame.area();
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        let text = format!("relay top needs {}x{}", MIN_SIZE.0, MIN_SIZE.1);
        frame.render_widget(Paragraph::new(width::fit_sanitized(&text, usize::from(area.width))), area);
        return;
    }
    let rows = [Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)];
    let [top, body, bottom] = Layout::vertical(rows).areas(area);
    frame.render_widget(header(model, usize::from(top.width), theme), top);
    let (jobs, details) = split_body(model, body);
    draw_rows(model, frame, jobs, theme);
    if let Some((details, borders)) = details {
        let block = Block::new().borders(borders).border_style(style::dim()).title(detail::pane_title(model));
        let inner = block.inner(details);
        frame.render_widget(block, details);
        frame.render_widget(Paragraph::new(detail::pane_lines(model, inner, theme)), inner);
    }
    frame.render_widget(footer(model, usize::from(bottom.width), theme), bottom);
    if model.mode == Mode::Help {
        draw_help(frame, body);
    }
}

/// Returns the area of the list, and the area and borders of the pane if the pane is open and fits.
fn split_body(model: &Model, body: Rect) -> (Rect, Option<(Rect, Borders)>) {
    let follows = matches!(model.pane, Pane::Log | Pane::Events);
    if model.pane == Pane::Closed || (body.height < MIN_PANE_HEIGHT && !follows) {
        return (body, None);
    }
    if body.width >= MIN_WIDTH_FOR_PANE_BESIDE {
        let halves = [Constraint::Percentage(55), Constraint::Percentage(45)];
        let [jobs, details] = Layout::horizontal(halves).areas(body);
        return (jobs, Some((details, Borders::LEFT | Borders::TOP)));
    }
    // The list takes a line for its header and one for each job (or for "no jobs"), up to a third of the screen.
    let jobs = u16::try_from(model.listed_records().len().max(1)).unwrap_or(u16::MAX).saturating_add(1);
    let max_height = (body.height / 3).max(3);
    let [jobs, details] =
        Layout::vertical([Constraint::Length(jobs.min(max_height)), Constraint::Min(2)]).areas(body);
    (jobs, Some((details, Borders::TOP)))
}

fn header(model: &Model, columns: usize, theme: Theme) -> Line<'static> {
    let view = &model.update.view;
    let now = format_clock(view.now, view.now, &view.zone);
    let room = columns.saturating_sub(now.len() + 1);
    if let Some(error) = &model.update.error {
        return Line::styled(width::pad(error, columns), theme.alarm_style());
    }
    let text = width::pad(&jobs_tty::format_headline(&model.update.records, view), room);
    Line::from(vec![Span::styled(text, style::bold()), Span::styled(format!(" {now}"), style::dim())])
}

fn draw_rows(model: &Model, frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let listed = model.listed_records();
    let columns = Columns::fit(&listed, usize::from(area.width));
    let mut lines = vec![columns.header()];
    if listed.is_empty() {
        let message = if model.filter.is_empty() {
            "  no jobs yet: `relay launch -w DIR \"task\"` starts one"
        } else {
            "  no job matches: esc lists all"
        };
        lines.push(Line::raw(width::fit_sanitized(message, usize::from(area.width))));
    }
    let mut room = usize::from(area.height).saturating_sub(1);
    let is_cut = listed.len() > room && room > 1;
    if is_cut {
        room -= 1;
    }
    let at = listed.iter().position(|record| Some(&record.job) == model.selected_job.as_ref()).unwrap_or(0);
    let from = (at + 1).saturating_sub(room);
    for record in listed.iter().skip(from).take(room) {
        let is_selected = Some(&record.job) == model.selected_job.as_ref();
        lines.push(columns.row(record, &model.update.view, theme, is_selected));
    }
    if is_cut {
        let text =
            width::fit_sanitized(&hidden_counts(from, listed.len() - from - room), usize::from(area.width));
        lines.push(Line::styled(text, style::dim()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Formats the numbers of jobs that don't fit: `  2 more above, 6 more below`.
fn hidden_counts(count_above: usize, count_below: usize) -> String {
    let parts = [(count_above, "above"), (count_below, "below")];
    let parts =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, side)| format!("{count} more {side}"));
    format!("  {}", parts.collect::<Vec<_>>().join(", "))
}

/// Returns the key hints that fit, most important first.
fn fitting_key_hints(columns: usize) -> String {
    const GAP: &str = "  ";
    let mut text = String::new();
    for key in KEY_HINTS {
        let longer = format!("{text}{}{key}", if text.is_empty() { "" } else { GAP });
        if width::display_width(&longer) > columns {
            break;
        }
        text = longer;
    }
    text
}

fn footer(model: &Model, columns: usize, theme: Theme) -> Line<'static> {
    let (text, style) = match (&model.mode, &model.note) {
        (Mode::Confirm(job), _) => {
            (format!("cancel {job} and everything it started? y/n"), theme.alarm_style())
        }
        (Mode::Filter, _) => (format!("/{}▏ enter: keep, esc: all", model.filter), style::bold()),
        (_, Some(note)) => (note.clone(), style::bold()),
        (_, None) if !model.filter.is_empty() => {
            (format!("only jobs with '{}' (esc: all)  q quit  ? help", model.filter), style::dim())
        }
        (_, None) => (fitting_key_hints(columns), style::dim()),
    };
    Line::styled(width::pad(&text, columns), style)
}

fn draw_help(frame: &mut Frame<'_>, body: Rect) {
    let width = body.width.min(60);
    let height = u16::try_from(KEY_HELP.len() + 2).unwrap_or(u16::MAX).min(body.height);
    let area = Rect { x: body.x + (body.width - width) / 2, y: body.y, width, height };
    let lines: Vec<Line<'_>> = KEY_HELP
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![Span::styled(format!(" {keys:<11}"), style::bold()), Span::raw(*what)])
        })
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}
