//! Lists with a maximum length. Deserialization fails as soon as a list announces or contains more items.
//!
//! An item can take two bytes on the wire and a hundred bytes in memory. So a limit on the bytes of a frame does not
//! limit the memory that its items take.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Maximum preallocated capacity, in items.
const MAX_PREALLOCATED: usize = 256;

/// Reads a list of at most `MAX` items, for serde's `deserialize_with`.
///
/// # Errors
/// Fails if the list has more items, or if one of them can't be read.
pub fn deserialize_list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    from.deserialize_seq(BoundedListVisitor::<T, MAX>(PhantomData))
}

struct BoundedListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedListVisitor<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let claimed = from.size_hint().unwrap_or(0);
        if claimed > MAX {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut items = Vec::with_capacity(claimed.min(MAX_PREALLOCATED));
        while let Some(item) = from.next_element()? {
            if items.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{Event, EventBody, MAX_LIST, PlanItem};
    use crate::wire::{self, AgentFrame, MAX_BATCH};

    fn plan(items: usize) -> EventBody {
        EventBody::Plan { items: vec![PlanItem { text: String::new(), completed: false }; items] }
    }

    fn event(body: EventBody) -> Event {
        Event { at: jiff::Timestamp::UNIX_EPOCH, body }
    }

    #[test]
    fn a_list_at_its_bound_is_read_and_one_item_more_is_refused() {
        for (items, taken) in [(0, true), (MAX_LIST, true), (MAX_LIST + 1, false)] {
            let json = serde_json::to_vec(&plan(items)).unwrap();
            assert_eq!(serde_json::from_slice::<EventBody>(&json).is_ok(), taken, "{items} as JSON");
            let bytes = wire::encode(&event(plan(items))).unwrap();
            assert_eq!(wire::decode::<Event>(&bytes).is_ok(), taken, "{items} on the wire");
        }
    }

    #[test]
    fn a_batch_at_its_bound_is_read_and_one_event_more_is_refused() {
        for (count, taken) in [(MAX_BATCH, true), (MAX_BATCH + 1, false)] {
            let batch = vec![event(plan(0)); count];
            let frame = AgentFrame::Events { job: "a#1".parse().unwrap(), epoch: 1, first_seq: 1, batch };
            assert_eq!(wire::decode::<AgentFrame>(&wire::encode(&frame).unwrap()).is_ok(), taken, "{count}");
        }
    }
}
