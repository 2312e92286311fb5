//! Schedule of deliveries: decides which channels of which notifications are due. Pure.
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

use super::plan::ChannelKind;
use crate::registry::outbox::{Channel, ChannelState, Entry};

/// Maximum number of deliveries that run at once.
const MAX_RUNNING: usize = 4;
/// Maximum number of these that go to people: a receiver that hangs must not delay the message to a session.
const MAX_TO_PEOPLE: usize = 3;
/// Time after which an unreachable receiver is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of attempts for a desktop notification: one that comes much later is useless.
const DESKTOP_TRIES: u32 = 3;
/// Interval between two checks of a session whose hook may show the notification at any moment.
const RECHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Grace period for an attached `wait` to claim the notice.
const ATTENDED_GRACE: Duration = Duration::from_secs(10);
/// Longest pause between attempts. A longer one results from a clock that was set back.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// Outcome of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has taken the notification.
    Taken,
    /// The delivery failed; the reason in one line.
    Failed(String),
    /// The receiver will never take it; the reason in one line.
    Refused(String),
}

/// Action for the delivery loop to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Write an entry.
    Save(Entry),
    /// Deliver through a channel.
    Run(JobId, ChannelKind),
    /// Every channel of this notification is done, or it needs none.
    Close(JobId),
}

/// Other deliveries of a notification, by commands and hooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DeliveryContext {
    /// True if the notification was shown to any client.
    pub(super) shown: bool,
    /// True if it was shown to the session that launched the job.
    pub(super) shown_there: bool,
    /// Set while that session is in a turn: the time until which its hooks may show the notification.
    pub(super) busy_until: Option<Timestamp>,
}

/// Notifications with unfinished deliveries.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    open: BTreeMap<JobId, OpenNotification>,
}

#[derive(Debug)]
struct OpenNotification {
    entry: Entry,
    running: BTreeSet<ChannelKind>,
    /// End of the grace period for an attached client. Nothing is delivered or written before; if the notification was
    /// shown until then, nothing is afterwards either.
    attended_until: Option<Timestamp>,
}

impl OpenNotification {
    /// Returns a channel that is neither done nor running.
    fn waiting(&self, kind: ChannelKind) -> Option<&Channel> {
        let channel = self
            .entry
            .channels
            .get(kind.as_str())
            .filter(|channel| channel.state == ChannelState::Pending)?;
        (!self.running.contains(&kind)).then_some(channel)
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && ChannelKind::ALL.iter().all(|kind| self.waiting(*kind).is_none())
    }

    fn channel(&mut self, kind: ChannelKind) -> Option<&mut Channel> {
        self.entry.channels.get_mut(kind.as_str())
    }
}

impl Schedule {
    /// Adds an entry that was written before.
    pub(super) fn resume(&mut self, entry: Entry) {
        let open = OpenNotification { entry, running: BTreeSet::new(), attended_until: None };
        self.open.insert(open.entry.job.clone(), open);
    }

    /// Adds a new entry. If a client stayed attached to the job until its end, it is given time to claim the
    /// notification.
    pub(super) fn add(&mut self, entry: Entry, attended: bool) -> Vec<Action> {
        let job = entry.job.clone();
        if self.open.contains_key(&job) {
            return Vec::new();
        }
        let attended_until = attended.then(|| entry.ended_at + ATTENDED_GRACE);
        let actions = if attended { Vec::new() } else { vec![Action::Save(entry.clone())] };
        self.open.insert(job.clone(), OpenNotification { entry, running: BTreeSet::new(), attended_until });
        self.with_close(actions, &job)
    }

    /// Returns the actions that are due now. `see` returns the other deliveries of a notification.
    pub(super) fn due(
        &mut self,
        now: Timestamp,
        is_configured: impl Fn(ChannelKind) -> bool,
        mut see: impl FnMut(&Entry) -> DeliveryContext,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let (mut to_people, mut all) = self.running_count();
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
                actions.push(Action::Save(open.entry.clone()));
            }
            for kind in ChannelKind::ALL.iter().copied() {
                let is_due = open
                    .waiting(kind)
                    .is_some_and(|channel| channel.next_at.is_none_or(|at| is_past(at, now)));
                if !is_due {
                    continue;
                }
                let too_old = now.duration_since(open.entry.ended_at).unsigned_abs() > GIVE_UP_AFTER;
                if too_old || !is_configured(kind) {
                    let reason =
                        if too_old { "not accepted within a day" } else { "it is no longer configured" };
                    open.give_up(kind, reason);
                    actions.push(Action::Save(open.entry.clone()));
                    continue;
                }
                let to_session = kind == ChannelKind::Codex;
                // The session is checked only when a slot is free, because the check reads files.
                if all >= MAX_RUNNING || (!to_session && to_people >= MAX_TO_PEOPLE) {
                    continue;
                }
                if to_session {
                    match open.choose_sender(&see(&open.entry), now) {
                        SessionSender::Message => {}
                        SessionSender::Hooks => continue,
                        SessionSender::NotNeeded => {
                            actions.push(Action::Save(open.entry.clone()));
                            continue;
                        }
                    }
                }
                all += 1;
                to_people += usize::from(!to_session);
                open.running.insert(kind);
                actions.push(Action::Run(job.clone(), kind));
            }
            actions = self.with_close(actions, &job);
        }
        actions
    }

    /// Handles the outcome of a delivery. `chance` (0 to 1) spreads the next attempts.
    pub(super) fn done(
        &mut self,
        job: &JobId,
        kind: ChannelKind,
        outcome: Outcome,
        now: Timestamp,
        chance: f64,
    ) -> Vec<Action> {
        let Some(open) = self.open.get_mut(job) else { return Vec::new() };
        open.running.remove(&kind);
        let taken = outcome == Outcome::Taken;
        let Some(channel) = open.channel(kind) else { return Vec::new() };
        channel.attempts = channel.attempts.saturating_add(1);
        match outcome {
            Outcome::Taken => channel.mark_taken(),
            Outcome::Refused(reason) => open.give_up(kind, &reason),
            Outcome::Failed(reason) if kind == ChannelKind::Desktop && channel.attempts >= DESKTOP_TRIES => {
                open.give_up(kind, &reason);
            }
            Outcome::Failed(reason) => {
                channel.next_at = Some(now + pause(channel.attempts, chance));
                channel.last_error = Some(reason);
            }
        }
        let actions = vec![Action::Save(open.entry.clone())];
        if taken {
            self.retry_now(kind, now);
        }
        self.with_close(actions, job)
    }

    /// Returns the next time at which [`Schedule::due`] has new actions.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.open.values().flat_map(|open| {
            let channels = ChannelKind::ALL.iter().filter_map(|kind| open.waiting(*kind)?.next_at);
            let channels = channels.filter(|_| open.attended_until.is_none());
            open.attended_until.into_iter().chain(channels)
        });
        // Deliveries that are already due wait for a slot and are checked when one is free.
        times.filter(|at| *at > now).min()
    }

    /// Makes all failed deliveries of a channel due: a receiver that has just taken one takes the others too.
    fn retry_now(&mut self, kind: ChannelKind, now: Timestamp) {
        for open in self.open.values_mut().filter(|open| open.waiting(kind).is_some()) {
            if let Some(channel) = open.channel(kind).filter(|channel| channel.attempts > 0) {
                channel.next_at = Some(now);
            }
        }
    }

    /// Returns the number of running deliveries to people, and in all.
    fn running_count(&self) -> (usize, usize) {
        let running = || self.open.values().flat_map(|open| &open.running);
        (running().filter(|kind| **kind != ChannelKind::Codex).count(), running().count())
    }

    fn with_close(&mut self, mut actions: Vec<Action>, job: &JobId) -> Vec<Action> {
        if self.open.get(job).is_some_and(|open| open.attended_until.is_none() && open.is_done()) {
            self.open.remove(job);
            actions.push(Action::Close(job.clone()));
        }
        actions
    }
}

impl OpenNotification {
    fn give_up(&mut self, kind: ChannelKind, reason: &str) {
        if let Some(channel) = self.channel(kind) {
            channel.state = ChannelState::GivenUp;
            channel.next_at = None;
            // The receiver's own error is more useful than the reason for giving up.
            channel.last_error.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Decides who shows the notification to its session: none if it was already shown, the session's hooks during a
    /// turn, else the message.
    fn choose_sender(&mut self, context: &DeliveryContext, now: Timestamp) -> SessionSender {
        let Some(channel) = self.channel(ChannelKind::Codex) else { return SessionSender::NotNeeded };
        if context.shown_there {
            channel.mark_taken();
            return SessionSender::NotNeeded;
        }
        if context.busy_until.is_some_and(|until| until > now) {
            channel.next_at = Some(now + RECHECK_INTERVAL);
            return SessionSender::Hooks;
        }
        SessionSender::Message
    }
}

enum SessionSender {
    Message,
    /// The session's own hooks, for a while.
    Hooks,
    /// None: the notification was shown.
    NotNeeded,
}

impl Channel {
    fn mark_taken(&mut self) {
        self.state = ChannelState::Taken;
        self.next_at = None;
        self.last_error = None;
    }
}

/// Returns true if a time has passed. A time further away than any pause results from a clock that was set back since.
fn is_past(at: Timestamp, now: Timestamp) -> bool {
    at <= now || at > now + MAX_PAUSE
}

/// Pause after the first attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Returns the pause after this many attempts: it doubles, and `chance` (0 to 1) spreads attempts that failed together
/// over its upper half.
fn pause(attempts: u32, chance: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let longest = (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
