//! Rewrites events for a relay of an older protocol version, which can't decode newer kinds of events.

use super::codec::{self, CodecError};
use crate::event::{Event, EventBody};

/// Returns encoded events without vitals, for a relay of a protocol before [`super::VITALS_PROTOCOL`]. Sequence
/// numbers must have no gaps, so an event without effect replaces each `Vitals` event: a file change without files.
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
    fn an_older_relay_gets_an_empty_file_change_instead_of_vitals() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let event = |body| codec::encode(&Event { at, body }).unwrap();
        let stalled = event(EventBody::Stalled { n: 1, evidence: "idle".into() });
        let vitals = event(EventBody::Vitals(Box::default()));
        let empty_change = event(EventBody::FileChange { files: Vec::new() });
        let sent = without_vitals([&stalled[..], &vitals, &stalled]).unwrap();
        assert_eq!(sent, [&stalled[..], &empty_change, &stalled].concat());
    }
}
