//! Context for the display of a record: the relay, its platform, a job's position in the queue.

use common::record::{JobRecord, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Context;
use crate::registry::lease::{self, PlatformStatus};
use crate::registry::{Registry, outbox, read};
use crate::render::{RelayState, View, delivery};

/// Returns the state of the relay that holds the registry, and the time on the scale of its records.
pub fn relay_state_and_time(registry: &Registry) -> (RelayState, Timestamp) {
    let (is_held, lease) = (lease::is_held(registry), lease::read_lease(registry));
    let now = lease::current_time_of(lease.as_ref());
    (RelayState::from_lease(is_held, lease, now), now)
}

/// Returns the number of jobs ahead in the queue, and the number of running jobs.
pub fn queue_position(registry: &Registry, record: &JobRecord) -> (usize, usize) {
    let earlier = |other: &JobRecord| {
        other.state == State::Queued
            && other.waiting.is_none()
            && (other.created_at, &other.job) < (record.created_at, &record.job)
    };
    // Without a listing the position is unknown, but the reason for waiting is still valid.
    let Ok(all) = read::read_records(registry) else { return (0, 0) };
    let ahead = all.iter().filter(|other| earlier(&other.record)).count();
    (ahead, all.iter().filter(|other| is_busy(other.record.state)).count())
}

/// Returns true for a job that is neither queued nor ended.
pub fn is_busy(state: State) -> bool {
    state != State::Queued && !state.is_final()
}

/// Returns the view at the current time.
pub fn current_view(context: &Context) -> View {
    let (relay, now) = relay_state_and_time(&context.registry);
    View {
        now,
        zone: TimeZone::system(),
        relay,
        queue: Vec::new(),
        ahead: 0,
        busy: 0,
        columns: context.output.columns(),
        delivery: None,
        paint: context.output.paint,
    }
}

/// Returns the view of one job: with its position in the queue if it is queued, and its delivery if it has ended.
pub fn view_of_job(context: &Context, record: &JobRecord) -> View {
    let mut view = current_view(context);
    if record.state == State::Queued && matches!(view.relay, RelayState::Up(PlatformStatus::Ready { .. })) {
        (view.ahead, view.busy) = queue_position(&context.registry, record);
    }
    if record.state.is_final() {
        let entry = outbox::read_entry(&context.registry, &record.job).ok().flatten();
        view.delivery = entry.and_then(|entry| delivery::failed_delivery(&entry, view.now));
    }
    view
}
