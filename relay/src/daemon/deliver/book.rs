//! Which ways of which ends are due: pure.
//!
//! ```text
//!             due, and a slot is free            taken
//!  Pending ───────────────────────────► running ───────► Taken
//!     ▲  │ no longer configured, a day old       │ refused, or failed for the last time
//!     │  └──────────────► GivenUp ◄──────────────┤
//!     └──────────────── failed: a pause ─────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::JobId;
use jiff::Timestamp;

use super::backoff;
use super::entry::Kind;
use crate::registry::outbox::{Entry, Way, WayState};

/// Deliveries that run at once.
const MOST: usize = 4;
/// Of these, deliveries to people: a receiver that hangs must not keep a session waiting.
const MOST_TO_PEOPLE: usize = 3;
/// How long a receiver may stay away.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// A notification that comes much later says nothing any more.
const DESKTOP_TRIES: u32 = 3;
/// Between two looks at a session whose hook may take the end at any moment.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long whoever stayed with a job to its end may take to say so.
const ATTENDED: Duration = Duration::from_secs(10);
/// No pause is longer: one that is comes from a clock that was set back.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The end was taken.
    Taken,
    /// It was not, in one line.
    Failed(String),
    /// It never will be, in one line.
    Refused(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Write an entry.
    Save(Entry),
    /// Try a way.
    Run(JobId, Kind),
    /// Every way of this end is done, or it needs none.
    Close(JobId),
}

/// What others have done about an end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// Somebody was shown it.
    pub(super) shown: bool,
    /// The session that launched the job was.
    pub(super) shown_there: bool,
    /// That session is in a turn, and until then its hooks are waited for.
    pub(super) busy_until: Option<Timestamp>,
}

/// The ends that are under way.
#[derive(Debug, Default)]
pub(super) struct Book {
    open: BTreeMap<JobId, Open>,
}

#[derive(Debug)]
struct Open {
    entry: Entry,
    running: BTreeSet<Kind>,
    /// Nothing is done or written before, and nothing at all when somebody was shown it until then.
    attended_until: Option<Timestamp>,
}

impl Open {
    /// A way that is neither done nor on its way.
    fn waiting(&self, kind: Kind) -> Option<&Way> {
        let way = self.entry.ways.get(kind.as_str()).filter(|way| way.state == WayState::Pending)?;
        (!self.running.contains(&kind)).then_some(way)
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && Kind::ALL.into_iter().all(|kind| self.waiting(kind).is_none())
    }

    fn way(&mut self, kind: Kind) -> Option<&mut Way> {
        self.entry.ways.get_mut(kind.as_str())
    }
}

impl Book {
    /// Takes an entry that was written before.
    pub(super) fn resume(&mut self, entry: Entry) {
        let open = Open { entry, running: BTreeSet::new(), attended_until: None };
        self.open.insert(open.entry.job.clone(), open);
    }

    /// Takes a new one. Where somebody stayed with the job to its end, it is given time to say so.
    pub(super) fn add(&mut self, entry: Entry, attended: bool) -> Vec<Act> {
        let job = entry.job.clone();
        if self.open.contains_key(&job) {
            return Vec::new();
        }
        let attended_until = attended.then(|| entry.ended_at + ATTENDED);
        let acts = if attended { Vec::new() } else { vec![Act::Save(entry.clone())] };
        self.open.insert(job.clone(), Open { entry, running: BTreeSet::new(), attended_until });
        self.with_close(acts, &job)
    }

    /// What is to be done now. `see` tells what others have done about an end.
    pub(super) fn due(
        &mut self,
        now: Timestamp,
        is_configured: impl Fn(Kind) -> bool,
        mut see: impl FnMut(&Entry) -> Sight,
    ) -> Vec<Act> {
        let mut acts = Vec::new();
        let (mut to_people, mut all) = self.load();
        let jobs: Vec<JobId> = self.open.keys().cloned().collect();
        for job in jobs {
            let Some(open) = self.open.get_mut(&job) else { continue };
            if let Some(until) = open.attended_until {
                if !is_past(until, now) {
                    continue;
                }
                if see(&open.entry).shown {
                    self.open.remove(&job);
                    continue;
                }
                open.attended_until = None;
                acts.push(Act::Save(open.entry.clone()));
            }
            for kind in Kind::ALL {
                let is_due =
                    open.waiting(kind).is_some_and(|way| way.next_at.is_none_or(|at| is_past(at, now)));
                if !is_due {
                    continue;
                }
                let too_old = now.duration_since(open.entry.ended_at).unsigned_abs() > PATIENCE;
                if too_old || !is_configured(kind) {
                    let reason =
                        if too_old { "nobody took it within a day" } else { "it is no longer configured" };
                    open.give_up(kind, reason);
                    acts.push(Act::Save(open.entry.clone()));
                    continue;
                }
                let to_session = kind == Kind::Codex;
                // Without a free slot nothing is looked at: that reads files.
                if all >= MOST || (!to_session && to_people >= MOST_TO_PEOPLE) {
                    continue;
                }
                if to_session {
                    match open.turn(&see(&open.entry), now) {
                        Turn::Ours => {}
                        Turn::Hooks => continue,
                        Turn::Over => {
                            acts.push(Act::Save(open.entry.clone()));
                            continue;
                        }
                    }
                }
                all += 1;
                to_people += usize::from(!to_session);
                open.running.insert(kind);
                acts.push(Act::Run(job.clone(), kind));
            }
            acts = self.with_close(acts, &job);
        }
        acts
    }

    /// A try is over. `chance` (0 to 1) spreads the next ones.
    pub(super) fn done(
        &mut self,
        job: &JobId,
        kind: Kind,
        outcome: Outcome,
        now: Timestamp,
        chance: f64,
    ) -> Vec<Act> {
        let Some(open) = self.open.get_mut(job) else { return Vec::new() };
        open.running.remove(&kind);
        let taken = outcome == Outcome::Taken;
        let Some(way) = open.way(kind) else { return Vec::new() };
        way.attempts = way.attempts.saturating_add(1);
        match outcome {
            Outcome::Taken => way.take(),
            Outcome::Refused(reason) => open.give_up(kind, &reason),
            Outcome::Failed(reason) if kind == Kind::Desktop && way.attempts >= DESKTOP_TRIES => {
                open.give_up(kind, &reason);
            }
            Outcome::Failed(reason) => {
                way.next_at = Some(now + backoff::pause(way.attempts, chance));
                way.last_error = Some(reason);
            }
        }
        let acts = vec![Act::Save(open.entry.clone())];
        if taken {
            self.wake(kind, now);
        }
        self.with_close(acts, job)
    }

    /// When [`Book::due`] has something to do that it could not do before.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.open.values().flat_map(|open| {
            let ways = Kind::ALL.into_iter().filter_map(|kind| open.waiting(kind)?.next_at);
            let ways = ways.filter(|_| open.attended_until.is_none());
            open.attended_until.into_iter().chain(ways)
        });
        // What is due already waits for a slot, and is looked at when one is free.
        times.filter(|at| *at > now).min()
    }

    /// A receiver that has just taken one end takes the others too.
    fn wake(&mut self, kind: Kind, now: Timestamp) {
        for open in self.open.values_mut().filter(|open| open.waiting(kind).is_some()) {
            if let Some(way) = open.way(kind).filter(|way| way.attempts > 0) {
                way.next_at = Some(now);
            }
        }
    }

    /// How many deliveries run to people, and in all.
    fn load(&self) -> (usize, usize) {
        let running = || self.open.values().flat_map(|open| &open.running);
        (running().filter(|kind| **kind != Kind::Codex).count(), running().count())
    }

    fn with_close(&mut self, mut acts: Vec<Act>, job: &JobId) -> Vec<Act> {
        if self.open.get(job).is_some_and(|open| open.attended_until.is_none() && open.is_done()) {
            self.open.remove(job);
            acts.push(Act::Close(job.clone()));
        }
        acts
    }
}

impl Open {
    fn give_up(&mut self, kind: Kind, reason: &str) {
        if let Some(way) = self.way(kind) {
            way.state = WayState::GivenUp;
            way.next_at = None;
            // Why nobody took it is worth more than that it is over.
            way.last_error.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// A session that was shown the end needs no message; one that is in a turn gets it from its hooks.
    fn turn(&mut self, sight: &Sight, now: Timestamp) -> Turn {
        let Some(way) = self.way(Kind::Codex) else { return Turn::Over };
        if sight.shown_there {
            way.take();
            return Turn::Over;
        }
        if sight.busy_until.is_some_and(|until| until > now) {
            way.next_at = Some(now + LOOK_AGAIN);
            return Turn::Hooks;
        }
        Turn::Ours
    }
}

/// Whose turn it is to tell a session of an end.
enum Turn {
    /// The message's.
    Ours,
    /// The session's own hooks', for a while.
    Hooks,
    /// Nobody's: it was told.
    Over,
}

impl Way {
    fn take(&mut self) {
        self.state = WayState::Taken;
        self.next_at = None;
        self.last_error = None;
    }
}

/// Whether a time has come. One that is further away than any pause belongs to a clock that was set back since.
fn is_past(at: Timestamp, now: Timestamp) -> bool {
    at <= now || at > now + LONGEST_PAUSE
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
