//! Expected content of the relay's logs: every event that the agent spooled, except those that the agent's disk lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;

/// A spooled event. The events of a job are pairwise different.
#[derive(Debug)]
struct Entry {
    body: EventBody,
    /// Number of the agent process that spooled the event.
    agent_process: u32,
    /// Real time at which the event was spooled.
    at: Duration,
    /// True unless the agent's disk lost the event.
    is_kept: bool,
}

/// State of a job at the agent, as the model sees it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The spool does not hold the job: it is not accepted yet, or already removed.
    #[default]
    Absent,
    /// The worker is running.
    Running,
    /// An earlier agent process left the run without an outcome.
    CutOff,
    /// The outcome is spooled.
    Finished,
}

/// A job: its events and output, and the faults that it had.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are independent")]
pub(crate) struct Job {
    entries: Vec<Entry>,
    /// Everything that the worker has printed.
    pub(crate) output: Vec<u8>,
    /// Length of the output that the agent's disk did not lose, in bytes.
    pub(crate) output_kept: usize,
    /// True if the relay's disk lost output of the ended job, of which no other copy exists.
    pub(crate) is_output_cut: bool,
    /// True if the agent lost the whole run, so that the relay ends the job by itself.
    pub(crate) is_wiped: bool,
    /// State of the job at the agent.
    pub(crate) stage: Stage,
    /// Number of the job's events that a power failure of the agent's machine can't remove.
    pub(crate) synced_events: usize,
    /// Real time of the job's launch.
    pub(crate) launched_at: Duration,
    pub(crate) is_cancel_requested: bool,
    /// True if the agent received the cancel while the worker was running.
    pub(crate) has_received_cancel: bool,
    /// True if a segment of the job was damaged: the model then can't know which events are left.
    pub(crate) is_spool_damaged: bool,
    /// True if the job's record was replaced once: a relay that can't read the record does not know the job's times.
    pub(crate) had_bad_record: bool,
    /// Folder that the job works in.
    pub(crate) folder: &'static str,
    /// True if the job may run while others work in the folder.
    pub(crate) shares_folder: bool,
    /// Jobs that must complete before the job starts.
    pub(crate) after: Vec<JobId>,
    /// Group of the job, and the number of jobs that the group may run at once.
    pub(crate) group: Option<(&'static str, u32)>,
}

/// Real time at which an event was spooled, and the number of the agent process that spooled it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpoolTime {
    pub(crate) at: Duration,
    pub(crate) agent_process: u32,
}

/// Comparison of a log with the entries of its job, up to the newest line.
#[derive(Debug, Default, Clone)]
pub(crate) struct LogMatch {
    /// Index of the first entry that no line has passed.
    next: usize,
    /// Agent processes of which the log lacks an event: it must hold no later event of theirs.
    gap_processes: BTreeSet<u32>,
}

impl LogMatch {
    /// Number of entries that the log has passed.
    pub(crate) fn matched_entries(&self) -> usize {
        self.next
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Largest error of each agent process about the relay's time: the longest time from a hello to its welcome.
    pub(crate) clock_errors: BTreeMap<u32, Duration>,
}

impl Model {
    /// Returns true if the job waits for the other one, directly or not.
    pub(crate) fn waits_for(&self, job: &JobId, other: &JobId) -> bool {
        let after = self.jobs.get(job).map(|job| job.after.as_slice()).unwrap_or_default();
        after.iter().any(|dependency| dependency == other || self.waits_for(dependency, other))
    }

    /// Returns true if too many jobs of the job's group run. Cancelled jobs, whose workers may still be
    /// ending, and jobs whose record or spool is damaged don't count.
    pub(crate) fn exceeds_group(&self, job: &JobId) -> bool {
        let Some((group, limit)) = self.jobs.get(job).and_then(|job| job.group) else { return false };
        let runs = |other: &&Job| {
            other.stage == Stage::Running
                && other.group.is_some_and(|(name, _)| name == group)
                && !(other.had_bad_record || other.is_spool_damaged || other.is_cancel_requested)
        };
        self.jobs.values().filter(runs).count() > limit as usize
    }
}

impl Job {
    pub(crate) fn launched(launched_at: Duration, folder: &'static str, shares_folder: bool) -> Self {
        Self { launched_at, folder, shares_folder, ..Self::default() }
    }

    /// Returns the job with dependencies and a group.
    pub(crate) fn with_schedule(self, after: Vec<JobId>, group: Option<(&'static str, u32)>) -> Self {
        Self { after, group, ..self }
    }

    /// Returns true if the two jobs must never run at the same time, because of their folders. Jobs whose record can't
    /// be read have no known folder, and cancelled workers may still be ending: both exclude nothing.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        let is_guarded = |job: &Self| {
            !job.shares_folder && !job.had_bad_record && !job.is_spool_damaged && !job.is_cancel_requested
        };
        let (ours, theirs) = (Path::new(self.folder), Path::new(other.folder));
        is_guarded(self) && is_guarded(other) && (ours.starts_with(theirs) || theirs.starts_with(ours))
    }

    /// Returns true if the spool holds the job's run.
    pub(crate) fn is_spooled(&self) -> bool {
        self.stage != Stage::Absent
    }

    pub(crate) fn add_entry(&mut self, body: EventBody, agent_process: u32, at: Duration) {
        self.entries.push(Entry { body, agent_process, at, is_kept: true });
    }

    /// Compares the spool with the entries after a restart of the agent, and marks the entries after `spooled` as lost.
    /// The spool may lack any number of the first `logged` entries, which the log has passed.
    pub(crate) fn compare_with_spool(&mut self, spooled: &[EventBody], logged: usize) -> Result<(), String> {
        if self.is_spool_damaged {
            return Ok(());
        }
        let delivered = self.entries[..logged].iter().filter(|entry| entry.is_kept).count();
        let mut kept: Vec<&mut Entry> = self.entries.iter_mut().filter(|entry| entry.is_kept).collect();
        let front = spooled
            .first()
            .map_or(Some(delivered), |first| kept.iter().position(|entry| entry.body == *first));
        let front = front
            .ok_or_else(|| format!("the spool holds {:?}, which was never appended", spooled.first()))?;
        if front > delivered {
            return Err(format!("the spool begins behind event {front}, of which {delivered} are delivered"));
        }
        for (entry, body) in kept[front..].iter().zip(spooled) {
            if entry.body != *body {
                return Err(format!("the spool holds {body:?} for {:?}", entry.body));
            }
        }
        if kept.len() < front + spooled.len() {
            return Err(format!("the spool holds {:?}, which was never appended", spooled.last()));
        }
        kept[front + spooled.len()..].iter_mut().for_each(|entry| entry.is_kept = false);
        Ok(())
    }

    /// Number of events that the agent's disk has not lost.
    pub(crate) fn kept_events(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_kept).count()
    }

    /// Marks everything of the job as lost by the agent's disk.
    pub(crate) fn wipe(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.is_kept = false);
        (self.is_wiped, self.stage) = (true, Stage::Absent);
        (self.output_kept, self.synced_events) = (0, 0);
    }

    /// Checks the output that the relay has recorded of the job in the end.
    pub(crate) fn check_output(&self, id: &JobId, recorded: &[u8]) -> Result<(), String> {
        // The agent after a lost one does not print the same output again. The relay refuses output of a job that was
        // cancelled before the relay knew it to be running.
        if self.is_wiped || self.is_spool_damaged || self.is_cancel_requested {
            return Ok(());
        }
        if !self.output.starts_with(recorded) {
            return Err(format!("{id}: its output is not what was printed"));
        }
        let least = if self.is_output_cut { 0 } else { self.output_kept };
        if recorded.len() < least {
            return Err(format!("{id}: {} bytes of its output are there, {least} are due", recorded.len()));
        }
        Ok(())
    }

    /// Compares the next event of the log with the next entry, after skipping lost entries.
    pub(crate) fn match_event(
        &self,
        log_match: &mut LogMatch,
        body: &EventBody,
    ) -> Result<Option<SpoolTime>, String> {
        if self.is_spool_damaged {
            return Ok(None);
        }
        while let Some(entry) = self.entries.get(log_match.next) {
            log_match.next += 1;
            if entry.body == *body {
                let follows_gap = log_match.gap_processes.contains(&entry.agent_process);
                let spooled = SpoolTime { at: entry.at, agent_process: entry.agent_process };
                return if follows_gap {
                    Err(format!("the log has {body:?} after a gap"))
                } else {
                    Ok(Some(spooled))
                };
            }
            if entry.is_kept {
                return Err(format!("the log has {body:?} instead of {:?}", entry.body));
            }
            log_match.gap_processes.insert(entry.agent_process);
        }
        Err(format!("the log has {body:?}: twice, or it was never spooled"))
    }

    /// Returns the first event that the log lacks although the agent's disk did not lose it.
    pub(crate) fn missing(&self, log_match: &LogMatch) -> Option<&EventBody> {
        if self.is_spool_damaged {
            return None;
        }
        self.entries[log_match.next..].iter().find(|entry| entry.is_kept).map(|entry| &entry.body)
    }
}
