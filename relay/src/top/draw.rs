//! The frame: header, list, pane, footer.

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
/// Minimum height with space for a pane below the list, in rows.
const MIN_PANE_HEIGHT: u16 = 14;
/// Minimum width for a pane beside the list, in columns. The list then takes 55 % of the screen, which is enough for
/// all its columns.
const MIN_WIDTH_BESIDE: u16 = 290;

/// Keys in the last line.
const KEYS: [&str; 9] =
    ["q quit", "? help", "↑↓ select", "enter details", "l log", "e events", "c cancel", "x +10m", "/ filter"];

const HELP: &[(&str, &str)] = &[
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
    let look = Theme { color: model.update.view.paint.is_enabled() };
    let area = frame.area();
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        let text = format!("relay top needs {}x{}", MIN_SIZE.0, MIN_SIZE.1);
        frame.render_widget(Paragraph::new(width::fit_sanitized(&text, usize::from(area.width))), area);
        return;
    }
    let rows = [Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)];
    let [top, body, bottom] = Layout::vertical(rows).areas(area);
    frame.render_widget(header(model, usize::from(top.width), look), top);
    let (jobs, details) = split_body(model, body);
    draw_rows(model, frame, jobs, look);
    if let Some((details, borders)) = details {
        let block = Block::new().borders(borders).border_style(style::dim()).title(detail::title(model));
        let inner = block.inner(details);
        frame.render_widget(block, details);
        frame.render_widget(Paragraph::new(detail::lines(model, inner, look)), inner);
    }
    frame.render_widget(footer(model, usize::from(bottom.width), look), bottom);
    if model.mode == Mode::Help {
        draw_help(frame, body);
    }
}

/// Returns the list's area, and the pane's if it is open and there is space.
fn split_body(model: &Model, body: Rect) -> (Rect, Option<(Rect, Borders)>) {
    let follows = matches!(model.pane, Pane::Log | Pane::Events);
    if model.pane == Pane::Closed || (body.height < MIN_PANE_HEIGHT && !follows) {
        return (body, None);
    }
    if body.width >= MIN_WIDTH_BESIDE {
        let halves = [Constraint::Percentage(55), Constraint::Percentage(45)];
        let [jobs, details] = Layout::horizontal(halves).areas(body);
        return (jobs, Some((details, Borders::LEFT | Borders::TOP)));
    }
    // One line per job, or a single line if there are none, up to a third of the screen.
    let jobs = u16::try_from(model.listed().len().max(1)).unwrap_or(u16::MAX).saturating_add(1);
    let most = (body.height / 3).max(3);
    let [jobs, details] =
        Layout::vertical([Constraint::Length(jobs.min(most)), Constraint::Min(2)]).areas(body);
    (jobs, Some((details, Borders::TOP)))
}

fn header(model: &Model, columns: usize, look: Theme) -> Line<'static> {
    let view = &model.update.view;
    let now = format_clock(view.now, view.now, &view.zone);
    let room = columns.saturating_sub(now.len() + 1);
    if let Some(error) = &model.update.error {
        return Line::styled(width::pad(error, columns), look.alarm());
    }
    let text = width::pad(&jobs_tty::format_headline(&model.update.records, view), room);
    Line::from(vec![Span::styled(text, style::bold()), Span::styled(format!(" {now}"), style::dim())])
}

fn draw_rows(model: &Model, frame: &mut Frame<'_>, area: Rect, look: Theme) {
    let listed = model.listed();
    let columns = Columns::fit(&listed, usize::from(area.width));
    let mut lines = vec![columns.header()];
    if listed.is_empty() {
        let why = if model.filter.is_empty() {
            "  no jobs yet: `relay launch -w DIR \"task\"` starts one"
        } else {
            "  no job matches: esc lists all"
        };
        lines.push(Line::raw(width::fit_sanitized(why, usize::from(area.width))));
    }
    let mut room = usize::from(area.height).saturating_sub(1);
    let is_cut = listed.len() > room && room > 1;
    if is_cut {
        room -= 1;
    }
    let at = listed.iter().position(|record| Some(&record.job) == model.selected.as_ref()).unwrap_or(0);
    let from = (at + 1).saturating_sub(room);
    for record in listed.iter().skip(from).take(room) {
        let selected = Some(&record.job) == model.selected.as_ref();
        lines.push(columns.row(record, &model.update.view, look, selected));
    }
    if is_cut {
        let text =
            width::fit_sanitized(&hidden_counts(from, listed.len() - from - room), usize::from(area.width));
        lines.push(Line::styled(text, style::dim()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// `  2 more above, 6 more below`
fn hidden_counts(above: usize, below: usize) -> String {
    let parts = [(above, "above"), (below, "below")];
    let parts =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, side)| format!("{count} more {side}"));
    format!("  {}", parts.collect::<Vec<_>>().join(", "))
}

/// Keys that fit, in order of importance.
fn key_hints(columns: usize) -> String {
    const GAP: &str = "  ";
    let mut text = String::new();
    for key in KEYS {
        let longer = format!("{text}{}{key}", if text.is_empty() { "" } else { GAP });
        if width::display_width(&longer) > columns {
            break;
        }
        text = longer;
    }
    text
}

fn footer(model: &Model, columns: usize, look: Theme) -> Line<'static> {
    let (text, style) = match (&model.mode, &model.note) {
        (Mode::Confirm(job), _) => (format!("cancel {job} and everything it started? y/n"), look.alarm()),
        (Mode::Filter, _) => (format!("/{}▏ enter: keep, esc: all", model.filter), style::bold()),
        (_, Some(note)) => (note.clone(), style::bold()),
        (_, None) if !model.filter.is_empty() => {
            (format!("only jobs with '{}' (esc: all)  q quit  ? help", model.filter), style::dim())
        }
        (_, None) => (key_hints(columns), style::dim()),
    };
    Line::styled(width::pad(&text, columns), style)
}

fn draw_help(frame: &mut Frame<'_>, body: Rect) {
    let width = body.width.min(60);
    let height = u16::try_from(HELP.len() + 2).unwrap_or(u16::MAX).min(body.height);
    let area = Rect { x: body.x + (body.width - width) / 2, y: body.y, width, height };
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![Span::styled(format!(" {keys:<11}"), style::bold()), Span::raw(*what)])
        })
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}
