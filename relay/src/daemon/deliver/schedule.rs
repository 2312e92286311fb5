//! Schedule of deliveries: decides which channels of which notifications are due. Pure.
//!
//! ```text
//!             due, and a slot is free          accepted
//!  Pending ───────────────────────────► running ───────► Accepted
//!     ▲  │ no longer configured, a day old       │ refused, or failed for the last time
//!     │  └──────────────► GivenUp ◄──────────────┤
//!     └──────────────── failed: a pause ─────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::JobId;
use jiff::Timestamp;

use super::plan::ChannelKind;
use crate::registry::outbox::{ChannelDelivery, ChannelState, OutboxEntry};

/// Maximum number of deliveries that run at once.
const MAX_RUNNING: usize = 4;
/// Maximum number of deliveries to people that run at once: hanging receivers must leave a slot for sessions.
const MAX_RUNNING_TO_PEOPLE: usize = 3;
/// Time since the end of a job after which a delivery that has failed until then is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of attempts to show a desktop notification, which is useless when late.
const MAX_DESKTOP_ATTEMPTS: u32 = 3;
/// Interval between two checks of a session whose hook may show the notification at any moment.
const RECHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Grace period for an attached `wait` to claim the notice.
const ATTENDED_GRACE: Duration = Duration::from_secs(10);
/// Maximum time until a planned attempt. An attempt that is planned later means that the clock was set back.
const MAX_PLANNED_PAUSE: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeliveryOutcome {
    /// The receiver has accepted the notification.
    Accepted,
    /// The attempt failed and can be repeated; the reason in one line.
    Failed(String),
    /// The receiver will never accept the notification; the reason in one line.
    Refused(String),
}

/// Action for the delivery loop to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeliveryAction {
    /// Write this outbox entry.
    SaveEntry(OutboxEntry),
    /// Deliver through a channel.
    StartDelivery(JobId, ChannelKind),
    /// Close the outbox entry of a job: all channels of its notification are done.
    CloseEntry(JobId),
}

/// Showings of a notification by commands and hooks, which make a delivery to the session unnecessary or delay it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DeliveryContext {
    /// True if the notification was shown to any client.
    pub(super) was_shown: bool,
    /// True if the notification was shown to the session that launched the job.
    pub(super) was_shown_in_session: bool,
    /// Time until which hooks of the session may show the notification; set while the session is in a turn.
    pub(super) hooks_may_show_until: Option<Timestamp>,
}

/// Notifications with unfinished deliveries.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    open_notifications: BTreeMap<JobId, OpenNotification>,
}

#[derive(Debug)]
struct OpenNotification {
    entry: OutboxEntry,
    running_channels: BTreeSet<ChannelKind>,
    /// End of the grace period for an attached client. Until then, nothing is delivered or written. If the client has
    /// shown the notification by then, nothing is delivered at all.
    grace_until: Option<Timestamp>,
}

impl OpenNotification {
    /// Returns a channel that is neither done nor running.
    fn pending_channel(&self, kind: ChannelKind) -> Option<&ChannelDelivery> {
        let channel = self
            .entry
            .channels
            .get(kind.as_str())
            .filter(|channel| channel.state == ChannelState::Pending)?;
        (!self.running_channels.contains(&kind)).then_some(channel)
    }

    fn is_done(&self) -> bool {
        self.running_channels.is_empty()
            && ChannelKind::ALL.iter().all(|kind| self.pending_channel(*kind).is_none())
    }

    fn channel(&mut self, kind: ChannelKind) -> Option<&mut ChannelDelivery> {
        self.entry.channels.get_mut(kind.as_str())
    }
}

impl Schedule {
    /// Adds an entry that an earlier daemon has written.
    pub(super) fn resume_entry(&mut self, entry: OutboxEntry) {
        let notification = OpenNotification { entry, running_channels: BTreeSet::new(), grace_until: None };
        self.open_notifications.insert(notification.entry.job.clone(), notification);
    }

    /// Adds a new entry. A client that stayed attached to the job until its end gets time to claim the notification.
    pub(super) fn add_entry(&mut self, entry: OutboxEntry, is_attended: bool) -> Vec<DeliveryAction> {
        let job = entry.job.clone();
        if self.open_notifications.contains_key(&job) {
            return Vec::new();
        }
        let grace_until = is_attended.then(|| entry.ended_at + ATTENDED_GRACE);
        let actions = if is_attended { Vec::new() } else { vec![DeliveryAction::SaveEntry(entry.clone())] };
        self.open_notifications
            .insert(job.clone(), OpenNotification { entry, running_channels: BTreeSet::new(), grace_until });
        self.with_close_action(actions, &job)
    }

    /// Returns the actions that are due now. `delivery_context` returns what commands and hooks have shown.
    pub(super) fn due_actions(
        &mut self,
        now: Timestamp,
        is_configured: impl Fn(ChannelKind) -> bool,
        mut delivery_context: impl FnMut(&OutboxEntry) -> DeliveryContext,
    ) -> Vec<DeliveryAction> {
        let mut actions = Vec::new();
        let (mut running_to_people, mut running_total) = self.running_counts();
        let jobs: Vec<JobId> = self.open_notifications.keys().cloned().collect();
        for job in jobs {
            let Some(notification) = self.open_notifications.get_mut(&job) else { continue };
            if let Some(until) = notification.grace_until {
                if !is_past(until, now) {
                    continue;
                }
                if delivery_context(&notification.entry).was_shown {
                    self.open_notifications.remove(&job);
                    continue;
                }
                notification.grace_until = None;
                actions.push(DeliveryAction::SaveEntry(notification.entry.clone()));
            }
            for kind in ChannelKind::ALL.iter().copied() {
                let is_due = notification
                    .pending_channel(kind)
                    .is_some_and(|channel| channel.next_at.is_none_or(|at| is_past(at, now)));
                if !is_due {
                    continue;
                }
                let is_too_old =
                    now.duration_since(notification.entry.ended_at).unsigned_abs() > GIVE_UP_AFTER;
                if is_too_old || !is_configured(kind) {
                    let reason =
                        if is_too_old { "not accepted within a day" } else { "it is no longer configured" };
                    notification.give_up_channel(kind, reason);
                    actions.push(DeliveryAction::SaveEntry(notification.entry.clone()));
                    continue;
                }
                let is_to_session = kind == ChannelKind::Codex;
                // The session is checked only when a slot is free, because the check reads files.
                if running_total >= MAX_RUNNING
                    || (!is_to_session && running_to_people >= MAX_RUNNING_TO_PEOPLE)
                {
                    continue;
                }
                if is_to_session {
                    match notification.choose_session_delivery(&delivery_context(&notification.entry), now) {
                        SessionDelivery::SendMessage => {}
                        SessionDelivery::WaitForHooks => continue,
                        SessionDelivery::NotNeeded => {
                            actions.push(DeliveryAction::SaveEntry(notification.entry.clone()));
                            continue;
                        }
                    }
                }
                running_total += 1;
                running_to_people += usize::from(!is_to_session);
                notification.running_channels.insert(kind);
                actions.push(DeliveryAction::StartDelivery(job.clone(), kind));
            }
            actions = self.with_close_action(actions, &job);
        }
        actions
    }

    /// Handles the outcome of a delivery. `jitter` (0 to 1) spreads the next attempts.
    pub(super) fn on_outcome(
        &mut self,
        job: &JobId,
        kind: ChannelKind,
        outcome: DeliveryOutcome,
        now: Timestamp,
        jitter: f64,
    ) -> Vec<DeliveryAction> {
        let Some(notification) = self.open_notifications.get_mut(job) else { return Vec::new() };
        notification.running_channels.remove(&kind);
        let is_accepted = outcome == DeliveryOutcome::Accepted;
        let Some(channel) = notification.channel(kind) else { return Vec::new() };
        channel.attempts = channel.attempts.saturating_add(1);
        match outcome {
            DeliveryOutcome::Accepted => channel.mark_accepted(),
            DeliveryOutcome::Refused(reason) => notification.give_up_channel(kind, &reason),
            DeliveryOutcome::Failed(reason)
                if kind == ChannelKind::Desktop && channel.attempts >= MAX_DESKTOP_ATTEMPTS =>
            {
                notification.give_up_channel(kind, &reason);
            }
            DeliveryOutcome::Failed(reason) => {
                channel.next_at = Some(now + pause_after(channel.attempts, jitter));
                channel.last_error = Some(reason);
            }
        }
        let actions = vec![DeliveryAction::SaveEntry(notification.entry.clone())];
        if is_accepted {
            self.retry_now(kind, now);
        }
        self.with_close_action(actions, job)
    }

    /// Returns the next time at which [`Schedule::due_actions`] has new actions, if nothing else happens until then.
    pub(super) fn next_due_time(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.open_notifications.values().flat_map(|notification| {
            let channels =
                ChannelKind::ALL.iter().filter_map(|kind| notification.pending_channel(*kind)?.next_at);
            let channels = channels.filter(|_| notification.grace_until.is_none());
            notification.grace_until.into_iter().chain(channels)
        });
        // Deliveries that are already due wait for a free slot.
        times.filter(|at| *at > now).min()
    }

    /// Makes all failed deliveries of a channel due, because the channel's receiver has just accepted a notification.
    fn retry_now(&mut self, kind: ChannelKind, now: Timestamp) {
        for notification in self
            .open_notifications
            .values_mut()
            .filter(|notification| notification.pending_channel(kind).is_some())
        {
            if let Some(channel) = notification.channel(kind).filter(|channel| channel.attempts > 0) {
                channel.next_at = Some(now);
            }
        }
    }

    /// Returns the number of running deliveries to people, and the number of all running deliveries.
    fn running_counts(&self) -> (usize, usize) {
        let running =
            || self.open_notifications.values().flat_map(|notification| &notification.running_channels);
        (running().filter(|kind| **kind != ChannelKind::Codex).count(), running().count())
    }

    /// Adds the action that closes the entry of a job, if all channels of its notification are done.
    fn with_close_action(&mut self, mut actions: Vec<DeliveryAction>, job: &JobId) -> Vec<DeliveryAction> {
        if self
            .open_notifications
            .get(job)
            .is_some_and(|notification| notification.grace_until.is_none() && notification.is_done())
        {
            self.open_notifications.remove(job);
            actions.push(DeliveryAction::CloseEntry(job.clone()));
        }
        actions
    }
}

impl OpenNotification {
    fn give_up_channel(&mut self, kind: ChannelKind, reason: &str) {
        if let Some(channel) = self.channel(kind) {
            channel.state = ChannelState::GivenUp;
            channel.next_at = None;
            // The receiver's own error is more useful than the reason for giving up.
            channel.last_error.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Decides how the session that launched the job gets the notification. It is left to the session's hooks during a
    /// turn, and is otherwise sent as a message, unless the session has already shown it.
    fn choose_session_delivery(&mut self, context: &DeliveryContext, now: Timestamp) -> SessionDelivery {
        let Some(channel) = self.channel(ChannelKind::Codex) else { return SessionDelivery::NotNeeded };
        if context.was_shown_in_session {
            channel.mark_accepted();
            return SessionDelivery::NotNeeded;
        }
        if context.hooks_may_show_until.is_some_and(|until| until > now) {
            channel.next_at = Some(now + RECHECK_INTERVAL);
            return SessionDelivery::WaitForHooks;
        }
        SessionDelivery::SendMessage
    }
}

/// Decision about the delivery of a notification to the session that launched the job.
enum SessionDelivery {
    /// A message starts a turn of the session.
    SendMessage,
    /// The session's own hooks have a limited time to show the notification.
    WaitForHooks,
    /// The session has already shown the notification.
    NotNeeded,
}

impl ChannelDelivery {
    fn mark_accepted(&mut self) {
        self.state = ChannelState::Accepted;
        self.next_at = None;
        self.last_error = None;
    }
}

/// Returns true if a time has passed, or if it is more than [`MAX_PLANNED_PAUSE`] away: then the clock was set back.
fn is_past(at: Timestamp, now: Timestamp) -> bool {
    at <= now || at > now + MAX_PLANNED_PAUSE
}

/// Longest pause after the first attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Returns the pause after this number of attempts. The longest possible pause doubles with each attempt; `jitter` (0
/// to 1) chooses a value between half of it and all of it.
fn pause_after(attempts: u32, jitter: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let longest = (FIRST_PAUSE * 2u32.pow(doublings)).min(MAX_PAUSE);
    longest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
