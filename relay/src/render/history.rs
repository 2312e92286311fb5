//! Row with the job that a job follows, and with the jobs that follow it.

use common::origin::FollowUp;
use common::record::{JobRecord, State};

use super::View;
use super::labeled_rows::LabeledRows;
use crate::failure_text;

/// Maximum number of follow-up jobs that are listed by name; the others are counted.
const MAX_LISTED: usize = 3;

/// Builds the row with the predecessor and the follow-up jobs of a job; `None` for a job without either.
pub fn history_row(
    record: &JobRecord,
    predecessors: &[JobRecord],
    successors: &[JobRecord],
    view: &View,
) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(follows) = &record.origin.follows {
        let relation = match follows.how {
            FollowUp::Resume => "continues",
            FollowUp::Retry => "retry of",
        };
        let state = match predecessors.iter().find(|job| job.job == follows.job) {
            Some(predecessor) => outcome_text(predecessor),
            None => "removed".to_owned(),
        };
        parts.push(format!("{relation} {} ({state})", follows.job));
    }
    let follow_ups: Vec<_> = successors
        .iter()
        .filter(|successor| {
            successor.origin.follows.as_ref().is_some_and(|follows| follows.job == record.job)
        })
        .collect();
    if !follow_ups.is_empty() {
        let hidden = follow_ups.len().saturating_sub(MAX_LISTED);
        let listed = follow_ups[hidden..]
            .iter()
            .map(|successor| format!("{} ({})", successor.job, outcome_text(successor)));
        let listed = listed.collect::<Vec<_>>().join(", ");
        let hidden_count = if hidden > 0 { format!("{hidden} others, ") } else { String::new() };
        parts.push(format!("followed by {hidden_count}{listed}"));
    }
    if parts.is_empty() {
        return None;
    }
    Some(LabeledRows::single_row(view, "history", &parts.join(" · ")))
}

/// Formats the outcome of a job: `completed`, `failed: step_timeout`.
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

    fn follow_up_job(job: &str, state: State, how: FollowUp, predecessor: &str) -> JobRecord {
        let follows = Some(Follows { job: predecessor.parse().unwrap(), how });
        JobRecord { origin: Origin { follows, ..Origin::default() }, ..samples::minimal_record(job, state) }
    }

    #[test]
    fn a_job_shows_its_predecessor_and_its_follow_up_jobs() {
        let view = samples::view(73);
        let first = samples::failed_record();
        let second = follow_up_job("abe#2", State::Completed, FollowUp::Resume, "abe#1");
        let third = follow_up_job("abe#3", State::Running, FollowUp::Retry, "abe#2");
        let successors = [second.clone(), third.clone()];
        let text = |record: &JobRecord, predecessors: &[JobRecord], successors: &[JobRecord]| {
            history_row(record, predecessors, successors, &view).unwrap_or_default()
        };
        assert_eq!(text(&first, &[], &successors), "history    followed by abe#2 (completed)\n");
        assert_eq!(
            text(&second, &[first], &successors[1..]),
            "history    continues abe#1 (failed: step_timeout) · followed by abe#3 (running)\n"
        );
        assert_eq!(text(&third, &[second], &[]), "history    retry of abe#2 (completed)\n");
        assert_eq!(text(&third, &[], &[]), "history    retry of abe#2 (removed)\n");
        assert_eq!(text(&samples::minimal_record("abe#1", State::Running), &[], &[]), "");
    }

    #[test]
    fn the_oldest_of_many_follow_up_jobs_are_only_counted() {
        let successors: Vec<JobRecord> = (2..=6)
            .map(|n| follow_up_job(&format!("abe#{n}"), State::Cancelled, FollowUp::Retry, "abe#1"))
            .collect();
        let text = history_row(
            &samples::minimal_record("abe#1", State::Failed),
            &[],
            &successors,
            &samples::view(73),
        )
        .unwrap();
        assert!(text.contains("followed by 2 others, abe#4 (cancelled), abe#5"), "{text}");
    }
}
