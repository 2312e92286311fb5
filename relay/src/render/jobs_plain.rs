//! Table of several jobs, one line each, for programs and language models: printed if stdout is not a terminal.

use common::duration;
use common::record::{JobRecord, State};
use common::text_format;

use super::{View, health, status, width};

const HEADER: [&str; 6] = ["JOB", "STATE", "FOR", "HEALTH", "STEP", "TASK"];
/// Maximum length of the column HEALTH, in bytes. With the limits of STEP and TASK, a row stays below 160 columns.
const MAX_HEALTH_BYTES: usize = 48;
/// Maximum length of the column STEP, in bytes.
const MAX_STEP_BYTES: usize = 28;
/// Maximum length of the column TASK, in bytes.
const MAX_TASK_BYTES: usize = 40;
/// Gap between two columns.
const COLUMN_GAP: &str = "  ";

/// Builds the output of `relay status`: a header and a line for each job, aligned in columns.
pub fn render_table(records: &[JobRecord], view: &View) -> String {
    let rows: Vec<[String; 6]> = records.iter().map(|record| row_cells(record, view)).collect();
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| width::display_width(&row[column]));
        cells.chain([HEADER[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(widest);
    let mut lines = vec![view.paint.dim(&format_line(&HEADER.map(str::to_owned), &widths, &|_, cell| cell))];
    for (row, record) in rows.iter().zip(records) {
        // Color is applied to the padded cell, so that it does not affect the widths.
        let word = health::health(record, view).word;
        let style_cell = |column, cell: String| match column {
            1 => view.paint.state(record.state, &cell),
            3 => view.paint.job_health(word, &cell),
            _ => cell,
        };
        lines.push(format_line(row, &widths, &style_cell));
    }
    lines.join("\n") + "\n"
}

fn format_line(cells: &[String; 6], widths: &[usize; 6], style: &dyn Fn(usize, String) -> String) -> String {
    let last = cells.len() - 1;
    let padded = cells.iter().enumerate().map(|(column, cell)| {
        let columns = if column == last { width::display_width(cell) } else { widths[column] };
        style(column, width::pad(cell, columns))
    });
    padded.collect::<Vec<_>>().join(COLUMN_GAP).trim_end().to_owned()
}

fn row_cells(record: &JobRecord, view: &View) -> [String; 6] {
    let step = match &record.step {
        Some(step) => text_format::one_line(&step.title, MAX_STEP_BYTES),
        None => "-".to_owned(),
    };
    [
        record.job.to_string(),
        record.state.as_str().to_owned(),
        duration::format_duration(status::elapsed_ms(record, view)),
        text_format::one_line(&short_health(record, view), MAX_HEALTH_BYTES),
        step,
        text_format::one_line(&record.prompt_summary, MAX_TASK_BYTES),
    ]
}

/// Returns the first part of the health sentence without the state, which has its own column. `relay status JOB` shows
/// all of it.
fn short_health(record: &JobRecord, view: &View) -> String {
    let health = health::health(record, view);
    let first_part = health.explanation.split("; ").next().unwrap_or_default();
    let (state, word) = (record.state.as_str(), health.word.as_str());
    let first_part = first_part.strip_prefix(state).unwrap_or(first_part).trim_start();
    if record.state.is_final() || record.state == State::Queued || record.state == State::Stopping {
        first_part.to_owned()
    } else {
        format!("{word}: {first_part}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn columns_are_aligned_by_their_width_on_a_terminal() {
        let mut with_wide_task = samples::completed_record();
        with_wide_task.prompt_summary = "修复测试".into();
        let records = [
            samples::running_record(),
            samples::lost_link_record(),
            samples::failed_record(),
            with_wide_task,
            samples::record_with_warnings(),
            samples::queued_record(),
        ];
        insta::assert_snapshot!(render_table(&records, &samples::view(73)), @r#"
        JOB    STATE      FOR     HEALTH                            STEP    TASK
        abe#1  running    1m12s   healthy: install 1m03s of 10m     npm ci  fix the tests
        abe#1  running    1m12s   stale: the agent is disconnected  npm ci  fix the tests
        abe#1  failed     10m10s  just now (step_timeout)           -       fix the tests
        abe#1  completed  10m10s  just now                          -       修复测试
        abe#1  completed  10m10s  with 4 warnings just now          -       fix the tests
        abe#1  queued     1m13s   next in line (4 of 4 slots busy)  -       fix the tests
        "#);
    }

    #[test]
    fn without_a_relay_durations_end_at_the_last_event() {
        let mut view = samples::view(600);
        view.relay = super::super::RelayState::Down;
        let text = render_table(&[samples::running_record(), samples::queued_record()], &view);
        assert!(text.contains("  9.0s ") && text.contains("  10m00s "), "{text}");
    }

    #[test]
    fn a_hostile_record_has_one_line() {
        let text = render_table(&[samples::hostile_record()], &samples::view(73));
        assert_eq!(text.lines().count(), 2);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.lines().all(|line| line.chars().count() < 160), "{text}");
    }

    #[test]
    fn color_does_not_move_a_column() {
        let mut view = samples::view(73);
        let plain = render_table(&[samples::failed_record(), samples::running_record()], &view);
        view.paint = super::super::Paint::new(true);
        let colored = render_table(&[samples::failed_record(), samples::running_record()], &view);
        let mut stripped = colored.replace("\u{1b}[0m", "");
        for code in ["\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[36m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
    }
}
