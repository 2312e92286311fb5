//! Deserialization of lists with a maximum length. It fails as soon as a list announces or contains more items.
//!
//! An item can take two bytes on the wire and a hundred bytes in memory. So a limit on the bytes of a frame alone does
//! not limit the memory that the decoded items take.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Maximum capacity that is allocated before the items of a list are read, in items.
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
        let announced_len = from.size_hint().unwrap_or(0);
        if announced_len > MAX {
            return Err(A::Error::invalid_length(announced_len, &self));
        }
        let mut items = Vec::with_capacity(announced_len.min(MAX_PREALLOCATED));
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
        for (items, is_accepted) in [(0, true), (MAX_LIST, true), (MAX_LIST + 1, false)] {
            let json = serde_json::to_vec(&plan(items)).unwrap();
            assert_eq!(serde_json::from_slice::<EventBody>(&json).is_ok(), is_accepted, "{items} as JSON");
            let bytes = wire::encode(&event(plan(items))).unwrap();
            assert_eq!(wire::decode::<Event>(&bytes).is_ok(), is_accepted, "{items} on the wire");
        }
    }

    #[test]
    fn a_batch_at_its_bound_is_read_and_one_event_more_is_refused() {
        for (count, is_accepted) in [(MAX_BATCH, true), (MAX_BATCH + 1, false)] {
            let batch = vec![event(plan(0)); count];
            let frame = AgentFrame::Events { job: "a#1".parse().unwrap(), epoch: 1, first_seq: 1, batch };
            assert_eq!(
                wire::decode::<AgentFrame>(&wire::encode(&frame).unwrap()).is_ok(),
                is_accepted,
                "{count}"
            );
        }
    }
}
