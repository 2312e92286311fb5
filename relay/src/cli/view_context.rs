//! Context of a record: the relay, its platform, a job's position in the queue.

use common::record::{JobRecord, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Context;
use crate::registry::lease::{self, PlatformStatus};
use crate::registry::{Registry, outbox, read};
use crate::render::{Relay, View, delivery};

/// Returns the state of the relay that holds the registry, and the time on the scale of its records.
pub fn relay_and_time(registry: &Registry) -> (Relay, Timestamp) {
    let (is_held, lease) = (lease::is_held(registry), lease::read(registry));
    let now = lease::now_of(lease.as_ref());
    (Relay::from_lease(is_held, lease, now), now)
}

/// Returns the number of jobs that are ahead of this one in the queue, and of those that are neither queued nor ended.
pub fn queue(registry: &Registry, record: &JobRecord) -> (usize, usize) {
    let earlier = |other: &JobRecord| {
        other.state == State::Queued && (other.created_at, &other.job) < (record.created_at, &record.job)
    };
    // Without a listing the position is unknown; the reason for waiting is still right.
    let Ok(all) = read::records(registry) else { return (0, 0) };
    let ahead = all.iter().filter(|other| earlier(&other.record)).count();
    (ahead, all.iter().filter(|other| is_busy(other.record.state)).count())
}

/// Returns true for a job that is neither queued nor ended.
pub fn is_busy(state: State) -> bool {
    state != State::Queued && !state.is_final()
}

/// Returns the view at the current time.
pub fn view(context: &Context) -> View {
    let (relay, now) = relay_and_time(&context.registry);
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
pub fn view_of(context: &Context, record: &JobRecord) -> View {
    let mut view = view(context);
    if record.state == State::Queued && matches!(view.relay, Relay::Up(PlatformStatus::Ready { .. })) {
        (view.ahead, view.busy) = queue(&context.registry, record);
    }
    if record.state.is_final() {
        let entry = outbox::read(&context.registry, &record.job).ok().flatten();
        view.delivery = entry.and_then(|entry| delivery::failed_delivery(&entry, view.now));
    }
    view
}
