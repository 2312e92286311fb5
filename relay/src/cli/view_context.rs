//! Context for the display of a record: the relay, its platform, a job's position in the queue.

use common::record::{JobRecord, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Context;
use crate::registry::lease::{self, PlatformStatus};
use crate::registry::queue::{Queue, QueueRow};
use crate::registry::{Registry, heads, outbox};
use crate::render::{RelayState, View, delivery};

/// Returns the state of the relay that holds the registry, and the current time by the registry's clock.
pub fn relay_state_and_time(registry: &Registry) -> (RelayState, Timestamp) {
    let (is_held, lease) = (lease::is_held(registry), lease::read_lease(registry));
    let now = lease::current_time_of(lease.as_ref());
    (RelayState::from_lease(is_held, lease, now), now)
}

/// Returns the queue of the registry's jobs.
fn read_queue(registry: &Registry) -> Queue {
    // Without a listing the position is unknown, but the platform's reason for waiting is still valid.
    let Ok(heads) = heads::read_heads(registry) else { return Queue::default() };
    let unfinished = heads.filter(|head| !head.state.is_final());
    let rows: Vec<QueueRow> = unfinished.map(|head| QueueRow::from(&head)).collect();
    Queue::new(&rows, &lease::group_limits(registry))
}

/// Returns the context for a display now, without the queue and without a delivery.
pub fn current_view(context: &Context) -> View {
    let (relay, now) = relay_state_and_time(&context.registry);
    View {
        now,
        zone: TimeZone::system(),
        relay,
        queue: Queue::default(),
        columns: context.output.columns(),
        delivery: None,
        paint: context.output.paint,
    }
}

/// Returns the context for a display of one job: with the queue if the job is queued, and with a failed delivery of the
/// completion notice if the job has ended.
pub fn view_of_job(context: &Context, record: &JobRecord) -> View {
    let mut view = current_view(context);
    if record.state == State::Queued && matches!(view.relay, RelayState::Up(PlatformStatus::Ready { .. })) {
        view.queue = read_queue(&context.registry);
    }
    if record.state.is_final() {
        let entry = outbox::read_entry(&context.registry, &record.job).ok().flatten();
        view.delivery = entry.and_then(|entry| delivery::failed_delivery(&entry, view.now));
    }
    view
}
