//! What must be in the relay's log in the end: every event that the agent spooled, but for those that its own disk lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;

/// An event that was spooled. No two of a job are equal.
#[derive(Debug)]
struct Entry {
    body: EventBody,
    /// The agent's life in which it was spooled.
    life: u32,
    /// True time at which it was spooled.
    at: Duration,
    /// Whether the agent's disk still has it, or had it until it was delivered.
    kept: bool,
}

/// What the agent has of a job.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing: not yet, or not any more.
    #[default]
    Nothing,
    /// Its worker lives.
    Alive,
    /// An earlier life of the agent left its run without an end.
    CutOff,
    /// Its end is spooled.
    Finished,
}

/// One job as it was lived.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something of its own that may have happened to it"
)]
pub(crate) struct Job {
    entries: Vec<Entry>,
    /// Everything printed.
    pub(crate) output: Vec<u8>,
    /// How much of it the agent's disk did not lose.
    pub(crate) output_kept: usize,
    /// The relay's disk lost output of a job that had ended: nobody has it any more.
    pub(crate) output_cut: bool,
    /// The agent lost the whole run: the relay ends the job by itself.
    pub(crate) wiped: bool,
    /// Where the agent is with it.
    pub(crate) stage: Stage,
    /// How many of its events are safe from a power loss of the agent.
    pub(crate) synced: usize,
    /// True time of its launch.
    pub(crate) launched: Duration,
    /// Somebody wants it ended, and whether its worker was told.
    pub(crate) cancelled: bool,
    pub(crate) told: bool,
    /// Its files in the spool were damaged: what of its events is left, only its agent knows.
    pub(crate) damaged: bool,
    /// Its record was spoiled once: a relay that can't read it does not keep its time.
    pub(crate) was_spoiled: bool,
}

/// An event's true time and life of the agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spooled {
    pub(crate) at: Duration,
    pub(crate) life: u32,
}

/// How far a log is matched with the entries.
#[derive(Debug, Default, Clone)]
pub(crate) struct Walk {
    next: usize,
    broken: BTreeSet<u32>,
}

impl Walk {
    /// How many entries are behind it.
    pub(crate) fn passed(&self) -> usize {
        self.next
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Longest time that a welcome was under way, per life of the agent: the bound of its error about the time.
    pub(crate) unsure: BTreeMap<u32, Duration>,
}

impl Job {
    pub(crate) fn launched(at: Duration) -> Self {
        Self { launched: at, ..Self::default() }
    }

    /// Whether the spool has its run.
    pub(crate) fn is_spooled(&self) -> bool {
        self.stage != Stage::Nothing
    }

    pub(crate) fn spooled(&mut self, body: EventBody, life: u32, at: Duration) {
        self.entries.push(Entry { body, life, at, kept: true });
    }

    /// Of what was on the agent's disk, all behind this is lost. What the relay has, which is the first `there` entries, may
    /// be missing at its front.
    ///
    /// # Errors
    /// The disk holds something else than was written, or more.
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

    /// How many events are on the agent's disk.
    pub(crate) fn kept(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kept).count()
    }

    /// The agent's disk has nothing of it any more.
    pub(crate) fn wipe(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.kept = false);
        (self.wiped, self.stage) = (true, Stage::Nothing);
        (self.output_kept, self.synced) = (0, 0);
    }

    /// What the relay's log of it holds in the end.
    ///
    /// # Errors
    /// It is not what was printed.
    pub(crate) fn check_output(&self, id: &JobId, there: &[u8]) -> Result<(), String> {
        // What one agent had printed before it was lost, the next one does not print again.
        // Of a job that was cancelled before anybody knew that it runs, nothing more is taken.
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

    /// The next event of the log.
    ///
    /// # Errors
    /// It is not the one that must come next.
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

    /// Whether a log that was walked so far has everything.
    pub(crate) fn missing(&self, walk: &Walk) -> Option<&EventBody> {
        if self.damaged {
            return None;
        }
        self.entries[walk.next..].iter().find(|entry| entry.kept).map(|entry| &entry.body)
    }
}
