//! List of jobs: one line for each job, with as many columns as fit.

use common::event::Resources;
use common::record::JobRecord;
use common::summary;
use ratatui::text::{Line, Span};

use super::style::{self, Theme};
use crate::render::health::{self, HealthWord};
use crate::render::{View, jobs_tty, width};

/// Gap between two columns.
const GAP: &str = "  ";
/// Width of the mark and word for a job's state, in terminal columns. All widths have this unit.
const STATE_WIDTH: usize = 11;
/// Width of the bar that shows the used part of the limit.
const BAR_WIDTH: usize = 10;
/// Width of the time beside the bar.
const TIME_WIDTH: usize = 13;
/// Width of the column with the used CPU time and memory.
const RESOURCES_WIDTH: usize = 19;
/// Maximum width of a job's id.
const MAX_JOB_WIDTH: usize = 28;
/// Minimum width of a list with the column of the used CPU time and memory.
const MIN_WIDTH_FOR_RESOURCES: usize = 120;
/// Minimum width of a list that also has a column with the worker's last message.
const MIN_WIDTH_FOR_MESSAGE: usize = 160;

/// Columns that fit into the list's width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    job_width: usize,
    activity_width: usize,
    shows_bar: bool,
    shows_resources: bool,
    task_width: usize,
    message_width: usize,
}

impl Columns {
    /// Distributes the width of the list among the columns, in order of importance.
    pub(super) fn fit(records: &[&JobRecord], width: usize) -> Self {
        let widest_id =
            records.iter().map(|record| width::display_width(&record.job.to_string())).max().unwrap_or(3);
        let job_width = widest_id.clamp(3, MAX_JOB_WIDTH).min((width / 4).max(8));
        let (shows_bar, shows_resources) = (width >= 60, width >= MIN_WIDTH_FOR_RESOURCES);
        let fixed = 2
            + STATE_WIDTH
            + 2
            + job_width
            + 2
            + if shows_bar { BAR_WIDTH + 1 } else { 0 }
            + TIME_WIDTH
            + if shows_resources { RESOURCES_WIDTH + 2 } else { 0 };
        let rest = width.saturating_sub(fixed + 2);
        let (activity_width, message_width) =
            if width >= MIN_WIDTH_FOR_MESSAGE { (rest * 2 / 5, rest / 3) } else { (rest * 3 / 5, 0) };
        let task_width =
            (rest - activity_width - message_width).saturating_sub(if message_width > 0 { 2 } else { 0 });
        Self { job_width, activity_width, shows_bar, shows_resources, task_width, message_width }
    }

    pub(super) fn header(self) -> Line<'static> {
        let mut text = format!(
            "  {}  {}  {}",
            width::pad("STATE", STATE_WIDTH),
            width::pad("JOB", self.job_width),
            width::pad("STEP", self.activity_width)
        );
        if self.shows_bar {
            text += &width::pad("", BAR_WIDTH + 1);
        }
        text += &" ".repeat(TIME_WIDTH - 4);
        text += "TIME";
        if self.shows_resources {
            text += GAP;
            text += &width::pad("USED", RESOURCES_WIDTH);
        }
        text += GAP;
        text += &width::pad("TASK", self.task_width);
        if self.message_width > 0 {
            text += "  SAID";
        }
        Line::styled(text, style::dim())
    }

    pub(super) fn row(
        self,
        record: &JobRecord,
        view: &View,
        theme: Theme,
        is_selected: bool,
    ) -> Line<'static> {
        let health = health::health(record, view);
        let bar_step = jobs_tty::step_for_bar(record, view, health.word);
        let state = width::pad(
            &format!("{} {}", jobs_tty::state_mark(record.state), record.state.as_str()),
            STATE_WIDTH,
        );
        let bar_step = bar_step.filter(|_| self.shows_bar);
        // The activity may fill the space of a missing bar.
        let bar_space = if self.shows_bar && bar_step.is_none() { BAR_WIDTH + 1 } else { 0 };
        let activity_width = self.activity_width.saturating_sub(1) + bar_space;
        let activity = width::pad(&jobs_tty::current_activity(record, view, health.word), activity_width);
        let activity_style = match health.word {
            HealthWord::Ended => theme.state_style(record.state),
            HealthWord::Quiet | HealthWord::Over | HealthWord::Stale => theme.health_style(health.word),
            _ => ratatui::style::Style::new(),
        };
        let mut spans = vec![
            Span::raw(if is_selected { "▸ " } else { "  " }),
            Span::styled(state, theme.state_style(record.state)),
            Span::raw("  "),
            Span::styled(width::pad(&record.job.to_string(), self.job_width), style::bold()),
            Span::raw("  "),
            Span::styled(activity, activity_style),
            Span::raw(" "),
        ];
        if let Some(bar_step) = bar_step {
            let bar = width::bar(bar_step.elapsed_ms, bar_step.limit_ms, BAR_WIDTH);
            spans.push(Span::styled(format!("{bar} "), theme.health_style(health.word)));
        }
        spans.push(Span::raw(format!("{:>TIME_WIDTH$}", jobs_tty::time_text(record, view, bar_step))));
        if self.shows_resources {
            let used =
                used_resources(record).map(|used| summary::format_resources(&used)).unwrap_or_default();
            spans.push(Span::raw(format!("  {}", width::pad(&used, RESOURCES_WIDTH))));
        }
        spans.push(Span::raw(format!("  {}", width::pad(&record.prompt_summary, self.task_width))));
        if self.message_width > 0 {
            let message = record.message.as_deref().unwrap_or_default();
            spans.push(Span::styled(format!("  {}", width::fit(message, self.message_width)), style::dim()));
        }
        let line = Line::from(spans);
        if is_selected { line.patch_style(style::selected()) } else { line }
    }
}

/// Returns the resources used by ended steps: the total CPU time, and the highest memory of one step. Steps include
/// their sub-steps.
fn used_resources(record: &JobRecord) -> Option<Resources> {
    let ended = record.steps.iter().filter(|step| step.parent.is_none()).filter_map(|step| step.resources);
    ended.reduce(|sum, one| Resources {
        cpu_ms: sum.cpu_ms.saturating_add(one.cpu_ms),
        peak_memory: sum.peak_memory.max(one.peak_memory),
    })
}
