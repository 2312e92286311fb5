//! Breakdown of the time: every millisecond of a job counts for the steps that ran then, or else as
//! queued or other time.
//!
//! Time belongs to the innermost steps: a step's own time excludes its sub-steps. The time of concurrent steps is split
//! among them, so that the shares add up to the total.

use std::collections::{BTreeMap, BTreeSet};

use common::event::{EventBody, StepOutcome};
use common::event_line::EventLine;
use common::job::StepKind;
use common::step::Step;
use jiff::Timestamp;

use crate::times::millis_between;

/// Step of an event log, with the time that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTime {
    pub step: Step,
    /// Run time without sub-steps, in milliseconds.
    pub own_ms: u64,
    /// Share of `own_ms` after splitting with concurrent steps, in milliseconds.
    share_ms: u64,
}

/// Breakdown of a job's time.
#[derive(Debug, Default)]
pub struct TimeBreakdown {
    /// Time before an agent had the job, in milliseconds.
    pub queued_ms: u64,
    /// Time in which the account could not use the model, in milliseconds.
    pub held_ms: u64,
    /// Time without a running step, in milliseconds.
    pub other_ms: u64,
    /// Every step of the job, in order of start.
    pub steps: Vec<StepTime>,
    /// Time in milliseconds, and number of steps, by kind of step.
    pub time_by_kind: BTreeMap<StepKind, (u64, u32)>,
    /// Steps with a process that was seen waiting on a socket.
    steps_on_sockets: BTreeSet<u32>,
    was_accepted: bool,
    is_held: bool,
    /// Running steps, as indexes into `steps`.
    running_steps: Vec<usize>,
}

impl TimeBreakdown {
    /// Builds the breakdown from an event log, up to `end_at` for a job that is still running.
    pub fn build(created_at: Timestamp, lines: &[EventLine], end_at: Timestamp) -> Self {
        let (mut breakdown, mut last_at) = (Self::default(), created_at);
        for event in lines.iter().filter_map(|line| line.event.as_ref()) {
            // The clocks of relay and agent may differ: a negative interval counts as zero.
            breakdown.add_interval(millis_between(last_at, event.at));
            last_at = last_at.max(event.at);
            breakdown.apply_event(event.at, &event.body);
        }
        breakdown.add_interval(millis_between(last_at, end_at));
        breakdown
    }

    fn apply_event(&mut self, at: Timestamp, body: &EventBody) {
        match body {
            EventBody::Accepted { .. } => {
                self.was_accepted = true;
                self.is_held = false;
            }
            EventBody::Held { hold } => self.is_held = hold.is_some(),
            EventBody::StepStarted { n, kind, title, limit_ms, parent } => {
                self.running_steps.push(self.steps.len());
                self.time_by_kind.entry(*kind).or_default().1 += 1;
                self.steps.push(StepTime {
                    step: Step::new_active(at, *n, *kind, title.clone(), *limit_ms, *parent),
                    own_ms: 0,
                    share_ms: 0,
                });
            }
            EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, resources } => {
                let Some(index) = self.running_steps.iter().position(|index| self.steps[*index].step.n == *n)
                else {
                    return;
                };
                let step = &mut self.steps[self.running_steps.remove(index)].step;
                step.outcome = Some(*outcome);
                step.exit_code = *exit_code;
                step.elapsed_ms = Some(*elapsed_ms);
                step.resources = *resources;
            }
            EventBody::Stalled { n, evidence }
                if ["TCP ", "UDP "].iter().any(|socket| evidence.contains(socket)) =>
            {
                self.steps_on_sockets.insert(*n);
            }
            EventBody::Extended { n: Some(n), limit_ms } => {
                if let Some(step_time) = self.steps.iter_mut().find(|step_time| step_time.step.n == *n) {
                    step_time.step.limit_ms = Some(*limit_ms);
                }
            }
            // A step whose end is not in the log ended with its job.
            EventBody::Finished { .. } => {
                for index in self.running_steps.drain(..) {
                    self.steps[index].step.outcome = Some(StepOutcome::Unknown);
                }
            }
            _ => {}
        }
    }

    fn add_interval(&mut self, ms: u64) {
        if ms == 0 {
            return;
        }
        if self.is_held {
            self.held_ms += ms;
            return;
        }
        if !self.was_accepted {
            self.queued_ms += ms;
            return;
        }
        let parents: Vec<u32> =
            self.running_steps.iter().filter_map(|index| self.steps[*index].step.parent).collect();
        let innermost: Vec<usize> = self
            .running_steps
            .iter()
            .copied()
            .filter(|index| !parents.contains(&self.steps[*index].step.n))
            .collect();
        let Ok(count @ 1..) = u64::try_from(innermost.len()) else {
            self.other_ms += ms;
            return;
        };
        for (i, index) in innermost.into_iter().enumerate() {
            let share = ms / count + if i == 0 { ms % count } else { 0 };
            let step_time = &mut self.steps[index];
            step_time.own_ms += ms;
            step_time.share_ms += share;
            self.time_by_kind.entry(step_time.step.kind).or_default().0 += share;
        }
    }

    /// Returns the CPU time of all steps, in milliseconds; `None` if none was measured.
    pub fn cpu_ms(&self) -> Option<u64> {
        let is_measured = self.steps.iter().any(|step_time| step_time.step.resources.is_some());
        is_measured.then(|| self.own_cpu_by_step().values().fold(0_u64, |sum, ms| sum.saturating_add(*ms)))
    }

    /// Returns the time that network steps did not spend on CPU, in milliseconds. Includes only steps
    /// that were seen waiting on a socket: others, such as a clone of a local folder, wait for the disk.
    pub fn network_wait_ms(&self) -> u64 {
        let cpu = self.own_cpu_by_step();
        let network = self.steps.iter().filter(|step_time| {
            step_time.step.kind.is_network() && self.steps_on_sockets.contains(&step_time.step.n)
        });
        network
            .map(|step_time| {
                step_time.share_ms.saturating_sub(cpu.get(&step_time.step.n).copied().unwrap_or(0))
            })
            .sum()
    }

    /// Returns the CPU time of each step without its sub-steps.
    pub fn own_cpu_by_step(&self) -> BTreeMap<u32, u64> {
        let cpu_of = |step: &Step| step.resources.map_or(0, |used| used.cpu_ms);
        let mut own_cpu: BTreeMap<u32, u64> =
            self.steps.iter().map(|step_time| (step_time.step.n, cpu_of(&step_time.step))).collect();
        for step_time in &self.steps {
            if let Some(parent) = step_time.step.parent.and_then(|parent| own_cpu.get_mut(&parent)) {
                *parent = parent.saturating_sub(cpu_of(&step_time.step));
            }
        }
        own_cpu
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn every_millisecond_is_counted_once_for_the_innermost_step() {
        let breakdown =
            TimeBreakdown::build(samples::at(0), &samples::stalled_job_events(), samples::at(152));
        let kinds: Vec<_> =
            breakdown.time_by_kind.iter().map(|(kind, (ms, steps))| (kind.as_str(), *ms, *steps)).collect();
        let expected = [
            ("start", 1000, 1),
            ("model", 10_000, 1),
            ("install", 132_000, 1),
            ("fetch", 5000, 1),
            ("build", 3000, 1),
        ];
        similar_asserts::assert_eq!(kinds, expected);
        assert_eq!((breakdown.queued_ms, breakdown.other_ms), (1000, 0));
        // The CPU time of the build step includes the CPU time of both sub-steps.
        assert_eq!((breakdown.cpu_ms(), breakdown.network_wait_ms()), (Some(12_800), 119_655));
    }

    #[test]
    fn concurrent_steps_share_time_and_a_running_job_is_counted_up_to_now() {
        let mut events = samples::stalled_job_events();
        events.truncate(10);
        for line in &mut events {
            if let Some(EventBody::StepStarted { parent, .. }) =
                line.event.as_mut().map(|event| &mut event.body)
            {
                *parent = None;
            }
        }
        let breakdown = TimeBreakdown::build(samples::at(0), &events, samples::at(21));
        assert_eq!(breakdown.steps[3].own_ms, 5000);
        assert_eq!(breakdown.time_by_kind[&StepKind::Fetch], (2500, 1));
        assert_eq!(breakdown.time_by_kind[&StepKind::Build], (1000 + 2500 + 3000, 1));
    }
}
