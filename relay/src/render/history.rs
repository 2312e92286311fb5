//! Predecessors and successors of a job, in one row.

use common::origin::FollowUp;
use common::record::{JobRecord, State};

use super::View;
use super::labeled_rows::LabeledRows;
use crate::failure_text;

/// Maximum number of follow-ups listed by name; the others are counted.
const MAX_NAMED: usize = 3;

/// Builds the row that shows a job's predecessors and successors; `None` for a job without either.
pub fn history_row(
    record: &JobRecord,
    predecessors: &[JobRecord],
    successors: &[JobRecord],
    view: &View,
) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(follows) = &record.origin.follows {
        let how = match follows.how {
            FollowUp::Resume => "continues",
            FollowUp::Retry => "retry of",
        };
        let state = match predecessors.iter().find(|earlier| earlier.job == follows.job) {
            Some(earlier) => outcome_text(earlier),
            None => "removed".to_owned(),
        };
        parts.push(format!("{how} {} ({state})", follows.job));
    }
    let own: Vec<_> = successors
        .iter()
        .filter(|later| later.origin.follows.as_ref().is_some_and(|follows| follows.job == record.job))
        .collect();
    if !own.is_empty() {
        let hidden = own.len().saturating_sub(MAX_NAMED);
        let named = own[hidden..].iter().map(|later| format!("{} ({})", later.job, outcome_text(later)));
        let named = named.collect::<Vec<_>>().join(", ");
        let earlier = if hidden > 0 { format!("{hidden} others, ") } else { String::new() };
        parts.push(format!("followed by {earlier}{named}"));
    }
    if parts.is_empty() {
        return None;
    }
    Some(LabeledRows::single_row(view, "history", &parts.join(" · ")))
}

/// `completed`, `failed: step_timeout`
fn outcome_text(record: &JobRecord) -> String {
    match record.state {
        State::Failed => format!("failed: {}", failure_text::failure_kind(record)),
        _ => record.describe_outcome(),
    }
}

#[cfg(test)]
mod tests {
    use common::origin::{Follows, Origin};

    use super::super::samples;
    use super::*;

    fn following(job: &str, state: State, how: FollowUp, earlier: &str) -> JobRecord {
        let follows = Some(Follows { job: earlier.parse().unwrap(), how });
        JobRecord { origin: Origin { follows, ..Origin::default() }, ..samples::bare(job, state) }
    }

    #[test]
    fn a_job_tells_what_it_follows_and_what_follows_it() {
        let view = samples::view(73);
        let first = samples::failed();
        let second = following("abe#2", State::Completed, FollowUp::Resume, "abe#1");
        let third = following("abe#3", State::Running, FollowUp::Retry, "abe#2");
        let after = [second.clone(), third.clone()];
        let text = |record: &JobRecord, before: &[JobRecord], after: &[JobRecord]| {
            history_row(record, before, after, &view).unwrap_or_default()
        };
        assert_eq!(text(&first, &[], &after), "history    followed by abe#2 (completed)\n");
        assert_eq!(
            text(&second, &[first], &after[1..]),
            "history    continues abe#1 (failed: step_timeout) · followed by abe#3 (running)\n"
        );
        assert_eq!(text(&third, &[second], &[]), "history    retry of abe#2 (completed)\n");
        assert_eq!(text(&third, &[], &[]), "history    retry of abe#2 (removed)\n");
        assert_eq!(text(&samples::bare("abe#1", State::Running), &[], &[]), "");
    }

    #[test]
    fn many_follow_ups_are_counted() {
        let after: Vec<JobRecord> = (2..=6)
            .map(|n| following(&format!("abe#{n}"), State::Cancelled, FollowUp::Retry, "abe#1"))
            .collect();
        let text =
            history_row(&samples::bare("abe#1", State::Failed), &[], &after, &samples::view(73)).unwrap();
        assert!(text.contains("followed by 2 others, abe#4 (cancelled), abe#5"), "{text}");
    }
}
