//! What is known beside a record: the relay, its platform, a job's place in the queue.

use common::ids::JobId;
use common::record::{JobRecord, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Context;
use crate::registry::lease::{self, PlatformStatus};
use crate::registry::read::Stored;
use crate::registry::{Registry, outbox, read};
use crate::render::{Relay, View, delivery};

/// Whether a relay holds the registry, and how its platform is.
pub fn relay(registry: &Registry) -> Relay {
    Relay::of(lease::is_held(registry), lease::read(registry), Timestamp::now())
}

/// How many jobs were queued before this one and still are.
pub fn ahead(registry: &Registry, record: &JobRecord) -> usize {
    let earlier = |other: &JobRecord| {
        other.state == State::Queued && (other.created_at, &other.job) < (record.created_at, &record.job)
    };
    // Without a listing there is no place to tell; the reason for waiting is still right.
    read::records(registry).unwrap_or_default().iter().filter(|other| earlier(&other.record)).count()
}

/// The jobs among these that are queued, the next one first.
pub fn queue(stored: &[Stored]) -> Vec<JobId> {
    let mut queued: Vec<&JobRecord> =
        stored.iter().map(|stored| &stored.record).filter(|record| record.state == State::Queued).collect();
    queued.sort_by(|a, b| (a.created_at, &a.job).cmp(&(b.created_at, &b.job)));
    queued.into_iter().map(|record| record.job.clone()).collect()
}

/// The view of a reader who looks now.
pub fn view(context: &Context) -> View {
    View {
        now: Timestamp::now(),
        zone: TimeZone::system(),
        relay: relay(&context.registry),
        queue: Vec::new(),
        ahead: 0,
        columns: context.output.columns(),
        delivery: None,
        paint: context.output.paint,
    }
}

/// The view on one job: with its place in the queue, where it has one.
pub fn view_of(context: &Context, record: &JobRecord) -> View {
    let mut view = view(context);
    if record.state == State::Queued && matches!(view.relay, Relay::Up(PlatformStatus::Ready { .. })) {
        view.ahead = ahead(&context.registry, record);
    }
    if record.state.is_final() {
        let entry = outbox::read(&context.registry, &record.job).ok().flatten();
        view.delivery = entry.and_then(|entry| delivery::trouble(&entry, view.now));
    }
    view
}
