//! Events for a relay of an older protocol version, which can't decode newer kinds of events.

use super::codec::{self, CodecError};
use crate::event::{Event, EventBody};

/// Returns encoded events without vitals, for a relay of a protocol before [`super::VITALS_PROTOCOL`]. Sequences must
/// not have gaps, so each of them is replaced by an event that changes nothing: a file change without files.
///
/// # Errors
/// Returns a [`CodecError`] if an event can't be decoded.
pub fn without_vitals<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    for bytes in events {
        let event: Event = codec::decode(bytes)?;
        match event.body {
            EventBody::Vitals(_) => {
                let body = EventBody::FileChange { files: Vec::new() };
                codec::encode_append(&Event { at: event.at, body }, &mut out)?;
            }
            _ => out.extend_from_slice(bytes),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_relay_gets_every_event_but_the_vitals_and_as_many() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let event = |body| codec::encode(&Event { at, body }).unwrap();
        let stalled = event(EventBody::Stalled { n: 1, evidence: "idle".into() });
        let vitals = event(EventBody::Vitals(Box::default()));
        let nothing = event(EventBody::FileChange { files: Vec::new() });
        let sent = without_vitals([&stalled[..], &vitals, &stalled]).unwrap();
        assert_eq!(sent, [&stalled[..], &nothing, &stalled].concat());
    }
}
