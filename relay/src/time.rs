//! The wall clock.

use jiff::{Timestamp, Unit};

/// Now, to the millisecond: what people read needs no more, and files stay short.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now)
}
