//! The list: one line for each job, with as many columns as fit.

use common::event::Resources;
use common::record::JobRecord;
use common::summary;
use ratatui::text::{Line, Span};

use super::style::{self, Theme};
use crate::render::health::{self, HealthWord};
use crate::render::{View, jobs_tty, width};

/// Gap between two columns.
const GAP: &str = "  ";
/// Width of a job's mark and state, in columns.
const STATE_WIDTH: usize = 11;
/// Width of the bar that shows the used part of the limit, in columns.
const BAR_WIDTH: usize = 10;
/// Width of the time beside the bar, in columns.
const TIME_WIDTH: usize = 13;
/// Width of the resources used, in columns.
const USED_WIDTH: usize = 19;
/// Maximum width of a job's id, in columns.
const JOB_WIDTH: usize = 28;
/// Minimum width of a list that shows the resources used by a job's steps, in columns.
const WIDE_WIDTH: usize = 120;
/// Minimum width of a list that also shows the worker's last message, in columns.
const WIDEST_WIDTH: usize = 160;

/// Columns of a list of this width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    job: usize,
    doing: usize,
    shows_bar: bool,
    shows_used: bool,
    task: usize,
    message_width: usize,
}

impl Columns {
    /// Distributes `width` among the columns, in order of importance.
    pub(super) fn fit(records: &[&JobRecord], width: usize) -> Self {
        let job =
            records.iter().map(|record| width::display_width(&record.job.to_string())).max().unwrap_or(3);
        let job = job.clamp(3, JOB_WIDTH).min((width / 4).max(8));
        let (shows_bar, shows_used) = (width >= 60, width >= WIDE_WIDTH);
        let fixed = 2
            + STATE_WIDTH
            + 2
            + job
            + 2
            + if shows_bar { BAR_WIDTH + 1 } else { 0 }
            + TIME_WIDTH
            + if shows_used { USED_WIDTH + 2 } else { 0 };
        let rest = width.saturating_sub(fixed + 2);
        let (doing, message_width) =
            if width >= WIDEST_WIDTH { (rest * 2 / 5, rest / 3) } else { (rest * 3 / 5, 0) };
        let task = (rest - doing - message_width).saturating_sub(if message_width > 0 { 2 } else { 0 });
        Self { job, doing, shows_bar, shows_used, task, message_width }
    }

    pub(super) fn header(self) -> Line<'static> {
        let mut text = format!(
            "  {}  {}  {}",
            width::pad("STATE", STATE_WIDTH),
            width::pad("JOB", self.job),
            width::pad("STEP", self.doing)
        );
        if self.shows_bar {
            text += &width::pad("", BAR_WIDTH + 1);
        }
        text += &" ".repeat(TIME_WIDTH - 4);
        text += "TIME";
        if self.shows_used {
            text += GAP;
            text += &width::pad("USED", USED_WIDTH);
        }
        text += GAP;
        text += &width::pad("TASK", self.task);
        if self.message_width > 0 {
            text += "  SAID";
        }
        Line::styled(text, style::dim())
    }

    pub(super) fn row(self, record: &JobRecord, view: &View, look: Theme, selected: bool) -> Line<'static> {
        let health = health::health(record, view);
        let bar_step = jobs_tty::step_for_bar(record, view, health.word);
        let state = width::pad(
            &format!("{} {}", jobs_tty::state_mark(record.state), record.state.as_str()),
            STATE_WIDTH,
        );
        let bar_step = bar_step.filter(|_| self.shows_bar);
        // Text may fill the space of a missing gauge.
        let gauge = if self.shows_bar && bar_step.is_none() { BAR_WIDTH + 1 } else { 0 };
        let room = self.doing.saturating_sub(1) + gauge;
        let doing = width::pad(&jobs_tty::current_activity(record, view, health.word), room);
        let doing_style = match health.word {
            HealthWord::Ended => look.state(record.state),
            HealthWord::Quiet | HealthWord::Over | HealthWord::Stale => look.health(health.word),
            _ => ratatui::style::Style::new(),
        };
        let mut spans = vec![
            Span::raw(if selected { "▸ " } else { "  " }),
            Span::styled(state, look.state(record.state)),
            Span::raw("  "),
            Span::styled(width::pad(&record.job.to_string(), self.job), style::bold()),
            Span::raw("  "),
            Span::styled(doing, doing_style),
            Span::raw(" "),
        ];
        if let Some(bar_step) = bar_step {
            let bar = width::bar(bar_step.elapsed_ms, bar_step.limit_ms, BAR_WIDTH);
            spans.push(Span::styled(format!("{bar} "), look.health(health.word)));
        }
        spans.push(Span::raw(format!("{:>TIME_WIDTH$}", jobs_tty::time_text(record, view, bar_step))));
        if self.shows_used {
            let used =
                used_resources(record).map(|used| summary::format_resources(&used)).unwrap_or_default();
            spans.push(Span::raw(format!("  {}", width::pad(&used, USED_WIDTH))));
        }
        spans.push(Span::raw(format!("  {}", width::pad(&record.prompt_summary, self.task))));
        if self.message_width > 0 {
            let message_width = record.message.as_deref().unwrap_or_default();
            spans.push(Span::styled(
                format!("  {}", width::fit(message_width, self.message_width)),
                style::dim(),
            ));
        }
        let line = Line::from(spans);
        if selected { line.patch_style(style::selected()) } else { line }
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
