//! Texts about steps, one line for each, with sub-steps below their parents.

use common::event::StepOutcome;
use common::record::{JobRecord, State};
use common::step::Step;
use common::{duration, summary, text_format};

/// Maximum indentation depth of sub-steps; deeper sub-steps are shown at this depth.
const MAX_DEPTH: usize = 3;
/// Maximum number of enclosing steps that are listed for a running step, the innermost ones.
const MAX_LISTED_PARENTS: usize = 2;
/// Maximum length of an enclosing step's title, in bytes.
const MAX_PARENT_TITLE_BYTES: usize = 40;

/// Returns steps with their depths: each step follows its parent, and the order is otherwise kept.
pub fn steps_as_tree<'a>(steps: &[&'a Step]) -> Vec<(usize, &'a Step)> {
    let mut tree: Vec<(usize, &Step)> = Vec::new();
    for step in steps {
        // A parent begins before its sub-steps; other parents in a record are ignored.
        let parent = step.parent.filter(|parent| *parent < step.n);
        let Some(parent_index) = tree.iter().position(|(_, other)| Some(other.n) == parent) else {
            tree.push((0, step));
            continue;
        };
        let depth = tree[parent_index].0;
        let descendants = tree[parent_index + 1..].iter().take_while(|(other, _)| *other > depth).count();
        tree.insert(parent_index + 1 + descendants, (depth + 1, step));
    }
    tree.into_iter().map(|(depth, step)| (depth.min(MAX_DEPTH), step)).collect()
}

/// Returns the enclosing steps of a step, the innermost first.
pub fn enclosing_steps(record: &JobRecord, n: u32) -> Vec<&Step> {
    let find = |n: u32| record.steps.iter().find(|step| step.n == n);
    let parent_of = |step: &&Step| step.parent.filter(|parent| *parent < step.n).and_then(find);
    std::iter::successors(find(n), parent_of).skip(1).collect()
}

/// Returns the step that makes no progress according to the newest warning, and the evidence; `None` for another kind
/// of warning.
pub fn stalled_step(record: &JobRecord) -> Option<(u32, &str)> {
    let (n, evidence) = record.warning.as_deref()?.strip_prefix("step ")?.split_once(" makes no progress")?;
    Some((n.parse().ok()?, evidence))
}

/// Returns true if a step succeeded, or ended so long ago that the record no longer contains it.
pub fn has_ended_well(record: &JobRecord, n: u32) -> bool {
    if record.step.as_ref().is_some_and(|step| step.n == n) {
        return false;
    }
    let ended = record.steps.iter().find(|step| step.n == n).map(|step| (step.outcome, step.parent));
    // The outcome of a sub-step is often unknown, but the work has continued.
    ended.is_none_or(|(outcome, parent)| match outcome {
        Some(StepOutcome::Ok) => true,
        Some(StepOutcome::Unknown) => parent.is_some(),
        Some(_) | None => false,
    })
}

/// Formats the enclosing steps of a step: ` (in build: make setup)`; empty for a step without a parent.
pub fn format_enclosing(enclosing: &[&Step]) -> String {
    if enclosing.is_empty() {
        return String::new();
    }
    let listed = enclosing.iter().take(MAX_LISTED_PARENTS);
    let listed: Vec<String> = listed
        .map(|step| {
            format!("in {}: {}", step.kind, text_format::one_line(&step.title, MAX_PARENT_TITLE_BYTES))
        })
        .collect();
    let ellipsis = if enclosing.len() > MAX_LISTED_PARENTS { ", …" } else { "" };
    format!(" ({}{ellipsis})", listed.join(", "))
}

/// Formats an ended step: `3 install 10m00s killed, cpu 12.3s, 240 MiB: npm ci`.
pub fn format_step(step: &Step) -> String {
    let time = duration::format_duration(step.elapsed_ms.unwrap_or(0));
    let used = step.resources.as_ref().map(|used| format!(", {}", summary::format_resources(used)));
    format!(
        "{} {} {time} {}{}: {}",
        step.n,
        step.kind,
        outcome_text(step),
        used.unwrap_or_default(),
        step.title
    )
}

/// Returns the mark for a step's outcome, and the state in whose color the mark is shown.
pub fn outcome_mark(step: &Step) -> (&'static str, State) {
    match step.outcome {
        Some(StepOutcome::Ok) => ("✓", State::Completed),
        Some(StepOutcome::Failed) => ("✗", State::Failed),
        Some(StepOutcome::Killed) => ("■", State::Failed),
        Some(StepOutcome::Unknown) => ("·", State::Queued),
        None => ("●", State::Running),
    }
}

/// Returns the outcome of a step, in a few words.
pub fn outcome_text(step: &Step) -> String {
    match (step.outcome, step.exit_code) {
        (Some(StepOutcome::Ok), _) => "ok".to_owned(),
        (Some(StepOutcome::Failed), Some(code)) => format!("failed (exit code {code})"),
        (Some(StepOutcome::Failed), None) => "failed".to_owned(),
        (Some(StepOutcome::Killed), _) => "killed".to_owned(),
        (Some(StepOutcome::Unknown), _) if step.has_unseen_end() => {
            "still running when the worker ended".to_owned()
        }
        (Some(StepOutcome::Unknown), _) => "ended".to_owned(),
        (None, _) => "running".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn sub_steps_are_listed_below_their_parents() {
        let mut record = samples::hostile_record();
        record.steps.truncate(6);
        let parents = [None, None, Some(1), Some(2), Some(3), Some(9)];
        for (i, (step, parent)) in (1..).zip(record.steps.iter_mut().zip(parents)) {
            (step.n, step.parent) = (i, parent);
        }
        let steps: Vec<&Step> = record.steps.iter().collect();
        let tree: Vec<(usize, u32)> =
            steps_as_tree(&steps).iter().map(|(depth, step)| (*depth, step.n)).collect();
        assert_eq!(tree, [(0, 1), (1, 3), (2, 5), (0, 2), (1, 4), (0, 6)]);
    }

    #[test]
    fn enclosing_steps_are_named_and_a_cycle_of_parents_is_ignored() {
        let mut record = samples::stalling_record();
        assert_eq!(format_enclosing(&enclosing_steps(&record, 5)), " (in build: make setup)");
        for step in &mut record.steps {
            step.parent = Some(5);
        }
        assert_eq!(enclosing_steps(&record, 5).len(), 0);
    }
}
