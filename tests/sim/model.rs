//! Expected content of the relay's log: every event that the agent spooled, except those that its own disk lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;

/// A spooled event. The events of a job are pairwise different.
#[derive(Debug)]
struct Entry {
    body: EventBody,
    /// Agent process in which it was spooled.
    life: u32,
    /// True time at which it was spooled.
    at: Duration,
    /// True while the agent's disk holds it, and after it was delivered from there.
    kept: bool,
}

/// State of a job at the agent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not at the agent: not accepted yet, or already removed.
    #[default]
    Nothing,
    /// The worker is running.
    Alive,
    /// An earlier agent process left the run without an outcome.
    CutOff,
    /// The outcome is spooled.
    Finished,
}

/// A job with everything that happened to it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are independent")]
pub(crate) struct Job {
    entries: Vec<Entry>,
    /// Everything printed.
    pub(crate) output: Vec<u8>,
    /// Length of the output that the agent's disk did not lose, in bytes.
    pub(crate) output_kept: usize,
    /// The relay's disk lost output of an ended job, and no other copy exists.
    pub(crate) output_cut: bool,
    /// The agent lost the whole run: the relay ends the job by itself.
    pub(crate) wiped: bool,
    /// State of the job at the agent.
    pub(crate) stage: Stage,
    /// Number of its events that are safe from a power loss of the agent.
    pub(crate) synced: usize,
    /// True time of its launch.
    pub(crate) launched: Duration,
    /// True once a cancel was requested; `told` is true once the worker has received it.
    pub(crate) cancelled: bool,
    pub(crate) told: bool,
    /// Its files in the spool were damaged: only the agent can tell which of its events are left.
    pub(crate) damaged: bool,
    /// Its record was spoiled at least once: a relay that can't read it does not keep its time.
    pub(crate) was_spoiled: bool,
    /// Folder that the job works in.
    pub(crate) folder: &'static str,
    /// True if it does not wait for others there.
    pub(crate) share: bool,
    /// Jobs that must complete before it starts.
    pub(crate) after: Vec<JobId>,
    /// Its group, and the limit of the group.
    pub(crate) group: Option<(&'static str, u32)>,
}

/// True time and agent process of a spooled event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spooled {
    pub(crate) at: Duration,
    pub(crate) life: u32,
}

/// Position in the entries up to which a log matches them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Walk {
    next: usize,
    broken: BTreeSet<u32>,
}

impl Walk {
    /// Number of entries that are matched.
    pub(crate) fn passed(&self) -> usize {
        self.next
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Longest time that a welcome took to arrive, per agent process: the bound of its error about the time.
    pub(crate) unsure: BTreeMap<u32, Duration>,
}

impl Model {
    /// Returns true if the job waits for the other one, directly or not.
    pub(crate) fn waits_for(&self, job: &JobId, other: &JobId) -> bool {
        let after = self.jobs.get(job).map(|job| job.after.as_slice()).unwrap_or_default();
        after.iter().any(|dependency| dependency == other || self.waits_for(dependency, other))
    }

    /// Returns true if more jobs of the job's group run than its limit allows. Jobs are left out of which the relay can't
    /// know for sure that they run.
    pub(crate) fn exceeds_group(&self, job: &JobId) -> bool {
        let Some((group, limit)) = self.jobs.get(job).and_then(|job| job.group) else { return false };
        let runs = |other: &&Job| {
            other.stage == Stage::Alive
                && other.group.is_some_and(|(name, _)| name == group)
                && !(other.was_spoiled || other.damaged || other.cancelled)
        };
        self.jobs.values().filter(runs).count() > limit as usize
    }
}

impl Job {
    pub(crate) fn launched(at: Duration, folder: &'static str, share: bool) -> Self {
        Self { launched: at, folder, share, ..Self::default() }
    }

    /// Adds what the job waits for.
    pub(crate) fn with_schedule(self, after: Vec<JobId>, group: Option<(&'static str, u32)>) -> Self {
        Self { after, group, ..self }
    }

    /// Returns true if the two jobs must never run at the same time. A relay that can't read a job's record knows
    /// nothing of its folder, and a cancelled worker takes a while to end.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        let is_guarded = |job: &Self| !job.share && !job.was_spoiled && !job.damaged && !job.cancelled;
        let (ours, theirs) = (Path::new(self.folder), Path::new(other.folder));
        is_guarded(self) && is_guarded(other) && (ours.starts_with(theirs) || theirs.starts_with(ours))
    }

    /// Returns true if the spool holds its run.
    pub(crate) fn is_spooled(&self) -> bool {
        self.stage != Stage::Nothing
    }

    pub(crate) fn spooled(&mut self, body: EventBody, life: u32, at: Duration) {
        self.entries.push(Entry { body, life, at, kept: true });
    }

    /// Compares the agent's disk with the entries after a restart: every entry after `held` is lost. Entries that the
    /// relay has, which are the first `there`, may be missing at the front.
    pub(crate) fn restarted(&mut self, held: &[EventBody], there: usize) -> Result<(), String> {
        if self.damaged {
            return Ok(());
        }
        let there = self.entries[..there].iter().filter(|entry| entry.kept).count();
        let mut kept: Vec<&mut Entry> = self.entries.iter_mut().filter(|entry| entry.kept).collect();
        let front =
            held.first().map_or(Some(there), |first| kept.iter().position(|entry| entry.body == *first));
        let front = front.ok_or_else(|| format!("the spool holds {:?}, which nobody wrote", held.first()))?;
        if front > there {
            return Err(format!("the spool begins behind event {front}, of which {there} are delivered"));
        }
        for (entry, body) in kept[front..].iter().zip(held) {
            if entry.body != *body {
                return Err(format!("the spool holds {body:?} for {:?}", entry.body));
            }
        }
        if kept.len() < front + held.len() {
            return Err(format!("the spool holds {:?}, which nobody wrote", held.last()));
        }
        kept[front + held.len()..].iter_mut().for_each(|entry| entry.kept = false);
        Ok(())
    }

    /// Number of events on the agent's disk.
    pub(crate) fn kept(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kept).count()
    }

    /// Removes everything of the job from the agent's disk.
    pub(crate) fn wipe(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.kept = false);
        (self.wiped, self.stage) = (true, Stage::Nothing);
        (self.output_kept, self.synced) = (0, 0);
    }

    /// Checks the relay's final output log of the job.
    pub(crate) fn check_output(&self, id: &JobId, there: &[u8]) -> Result<(), String> {
        // After an agent is lost, the next one does not print the same output again. The output of a job that was
        // cancelled before the relay had seen it run is not accepted.
        if self.wiped || self.damaged || self.cancelled {
            return Ok(());
        }
        if !self.output.starts_with(there) {
            return Err(format!("{id}: its output is not what was printed"));
        }
        let least = if self.output_cut { 0 } else { self.output_kept };
        if there.len() < least {
            return Err(format!("{id}: {} bytes of its output are there, {least} are due", there.len()));
        }
        Ok(())
    }

    /// Matches the next event of the log.
    pub(crate) fn walk(&self, walk: &mut Walk, body: &EventBody) -> Result<Option<Spooled>, String> {
        if self.damaged {
            return Ok(None);
        }
        while let Some(entry) = self.entries.get(walk.next) {
            walk.next += 1;
            if entry.body == *body {
                let gap = walk.broken.contains(&entry.life);
                let spooled = Spooled { at: entry.at, life: entry.life };
                return if gap {
                    Err(format!("the log has {body:?} behind a gap"))
                } else {
                    Ok(Some(spooled))
                };
            }
            if entry.kept {
                return Err(format!("the log has {body:?} in place of {:?}", entry.body));
            }
            walk.broken.insert(entry.life);
        }
        Err(format!("the log has {body:?}: twice, or nobody spooled it"))
    }

    /// Returns the first entry that a log lacks, given the position up to which it matches.
    pub(crate) fn missing(&self, walk: &Walk) -> Option<&EventBody> {
        if self.damaged {
            return None;
        }
        self.entries[walk.next..].iter().find(|entry| entry.kept).map(|entry| &entry.body)
    }
}
