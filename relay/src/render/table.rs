//! Several jobs, one line each.

use common::duration;
use common::record::{JobRecord, Link, State};
use common::text;

use super::{View, status};

const HEADER: [&str; 6] = ["JOB", "STATE", "STEP", "ELAPSED", "WORKSPACE", "PROMPT"];
/// Longest step, workspace and prompt, in bytes: a row stays below 160 columns.
const STEP: usize = 36;
const WORKSPACE: usize = 24;
const PROMPT: usize = 48;
/// Between two columns.
const GAP: &str = "  ";

/// What `relay status` prints: aligned by characters, a header, a line for each job.
pub fn of(records: &[JobRecord], view: &View) -> String {
    let rows: Vec<[String; 6]> = records.iter().map(|record| row(record, view)).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADER[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut lines = vec![view.paint.dim(&line(&HEADER.map(str::to_owned), &widths, &|_, cell| cell))];
    for (row, record) in rows.iter().zip(records) {
        // Colour goes around the padded cell, so that it can't disturb the widths.
        let brush = |column, cell: String| match column {
            1 => view.paint.state(record.state, &cell),
            _ => cell,
        };
        lines.push(line(row, &widths, &brush));
    }
    lines.join("\n") + "\n"
}

fn line(cells: &[String; 6], widths: &[usize; 6], brush: &dyn Fn(usize, String) -> String) -> String {
    let last = cells.len() - 1;
    let padded = cells.iter().enumerate().map(|(column, cell)| {
        let width = if column == last { 0 } else { widths[column] };
        brush(column, format!("{cell:<width$}"))
    });
    padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

fn row(record: &JobRecord, view: &View) -> [String; 6] {
    let lost = !record.state.is_final() && record.link == Some(Link::Lost);
    let state = format!("{}{}", record.state.as_str(), if lost { " (link lost)" } else { "" });
    let step = match (&record.step, record.state) {
        (Some(step), _) => format!("{}: {}", step.kind, step.title),
        (None, State::Failed) => status::failure_kind(record),
        (None, _) => "-".to_owned(),
    };
    let folder = record.workspace.rsplit('/').find(|part| !part.is_empty()).unwrap_or("/");
    [
        record.job.to_string(),
        state,
        text::one_line(&step, STEP),
        duration::short(status::elapsed(record, view)),
        text::one_line(folder, WORKSPACE),
        text::one_line(&record.prompt_summary, PROMPT),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let mut umlauts = samples::completed();
        umlauts.workspace = "/w/äöü".into();
        let records =
            [samples::running(), samples::link_lost(), samples::failed(), umlauts, samples::queued()];
        insta::assert_snapshot!(of(&records, &samples::view(73)), @r#"
        JOB    STATE                STEP             ELAPSED  WORKSPACE  PROMPT
        abe#1  running              install: npm ci  1m11s    abe        fix the tests
        abe#1  running (link lost)  install: npm ci  1m11s    abe        fix the tests
        abe#1  failed               step_timeout     10m09s   abe        fix the tests
        abe#1  completed            -                10m09s   äöü        fix the tests
        abe#1  queued               -                1m13s    abe        fix the tests
        "#);
    }

    #[test]
    fn without_a_relay_no_time_is_claimed_beyond_the_last_event() {
        let mut view = samples::view(600);
        view.relay = super::super::Relay::Down;
        let text = of(&[samples::running(), samples::queued()], &view);
        assert!(text.contains("  8.0s ") && text.contains("  10m00s "), "{text}");
    }

    #[test]
    fn hostile_records_stay_on_their_line() {
        let text = of(&[samples::hostile()], &samples::view(73));
        assert_eq!(text.lines().count(), 2);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.lines().all(|line| line.chars().count() < 160), "{text}");
    }

    #[test]
    fn colour_does_not_move_a_column() {
        let mut view = samples::view(73);
        let plain = of(&[samples::failed(), samples::running()], &view);
        view.paint = super::super::Paint::new(true);
        let colored = of(&[samples::failed(), samples::running()], &view);
        let mut stripped = colored.replace("\u{1b}[0m", "");
        for code in ["\u{1b}[2m", "\u{1b}[31m", "\u{1b}[36m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
    }
}
