//! Encoding of frames. No other file names the encoding, so it can be replaced without changes elsewhere.

use bincode::config::{Configuration, Limit, LittleEndian, NoLimit, Varint};
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{AgentFrame, MAX_MESSAGE};
use crate::ids::JobId;

// The type is written out, so that a changed default of the library causes a compile error instead of different bytes.
const WRITE_CONFIG: Configuration<LittleEndian, Varint, NoLimit> = bincode::config::standard();
const READ_CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE>> =
    bincode::config::standard().with_limit::<MAX_MESSAGE>();

/// Error for a value that can't be encoded, or for bytes that can't be decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value needs more than [`MAX_MESSAGE`] bytes.
    #[error("a frame of {0} bytes is longer than the limit of {MAX_MESSAGE}")]
    TooLong(usize),
    /// The value can't be encoded.
    #[error("a frame could not be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// The bytes are not a valid value, or announce a length beyond the limit.
    #[error("a frame could not be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// There are bytes after the end of the value.
    #[error("a frame has {0} bytes after its end")]
    TrailingBytes(usize),
}

/// Encodes a frame.
///
/// # Errors
/// Returns [`CodecError::TooLong`] if the frame does not fit into one message.
pub fn encode<T: Serialize>(frame: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(frame, WRITE_CONFIG)?;
    if bytes.len() > MAX_MESSAGE { Err(CodecError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Appends the bytes of a value to `buffer` and returns their number. On an error `buffer` is unchanged.
///
/// # Errors
/// Returns [`CodecError::TooLong`] if the value alone does not fit into one message.
pub fn encode_append<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<usize, CodecError> {
    let begin = buffer.len();
    let result = match bincode::serde::encode_into_std_write(value, buffer, WRITE_CONFIG) {
        Ok(len) if len <= MAX_MESSAGE => return Ok(len),
        Ok(len) => Err(CodecError::TooLong(len)),
        Err(error) => Err(error.into()),
    };
    buffer.truncate(begin);
    result
}

/// Returns the bytes of an [`AgentFrame::Events`] with `count` events. `events` is the concatenation of their bytes.
///
/// So events that were stored in the encoding of [`encode`] can be sent without being decoded.
///
/// # Errors
/// Returns [`CodecError::TooLong`] if the frame does not fit into one message.
pub fn encode_events(
    job: &JobId,
    epoch: u32,
    first_seq: u64,
    count: usize,
    events: &[u8],
) -> Result<Vec<u8>, CodecError> {
    let empty = AgentFrame::Events { job: job.clone(), epoch, first_seq, batch: Vec::new() };
    let mut bytes = encode(&empty)?;
    bytes.reserve_exact(events.len() + size_of::<u64>());
    // The last byte of an empty frame is the length of its batch, which the actual length replaces.
    bytes.pop();
    encode_append(&(count as u64), &mut bytes)?;
    bytes.extend_from_slice(events);
    if bytes.len() > MAX_MESSAGE { Err(CodecError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Decodes a frame from all of these bytes. Refuses a length beyond [`MAX_MESSAGE`] before allocating memory for it.
///
/// # Errors
/// Returns a [`CodecError`] that describes the fault in the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(CodecError::TooLong(bytes.len()));
    }
    let (frame, consumed) = bincode::serde::decode_from_slice(bytes, READ_CONFIG)?;
    if consumed == bytes.len() { Ok(frame) } else { Err(CodecError::TrailingBytes(bytes.len() - consumed)) }
}

/// Decodes the value at the beginning of these bytes and ignores the rest.
///
/// # Errors
/// Returns a [`CodecError`] that describes the fault in the bytes.
pub(super) fn decode_beginning<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(CodecError::TooLong(bytes.len()));
    }
    Ok(bincode::serde::decode_from_slice(bytes, READ_CONFIG)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventBody};
    use crate::wire::RelayFrame;

    #[test]
    fn a_frame_of_encoded_events_equals_the_frame_of_the_events() {
        let job: JobId = "a#1".parse().unwrap();
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        for count in [0, 1, 250, 251, 300] {
            let event = |n: usize| Event { at, body: EventBody::Message { text: "x".repeat(n) } };
            let batch: Vec<Event> = (0..count).map(event).collect();
            let mut stored = Vec::new();
            for event in &batch {
                encode_append(event, &mut stored).unwrap();
            }
            let bytes = encode_events(&job, 7, 1000, count, &stored).unwrap();
            let frame = AgentFrame::Events { job: job.clone(), epoch: 7, first_seq: 1000, batch };
            assert_eq!(bytes, encode(&frame).unwrap(), "{count} events");
        }
        assert!(matches!(encode_events(&job, 1, 1, 1, &vec![0; MAX_MESSAGE]), Err(CodecError::TooLong(_))));
    }

    #[test]
    fn a_value_over_the_limit_leaves_the_buffer_unchanged() {
        let mut out = vec![7];
        assert!(matches!(encode_append(&vec![1_u8; MAX_MESSAGE], &mut out), Err(CodecError::TooLong(_))));
        assert_eq!(out, [7]);
    }

    #[test]
    fn bytes_after_the_frame_are_refused() {
        let mut bytes = encode(&RelayFrame::Ping { nonce: 7 }).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<RelayFrame>(&bytes), Err(CodecError::TrailingBytes(1))));
    }

    #[test]
    fn a_short_frame_that_announces_a_huge_length_is_refused() {
        // Output { job: "a#1", epoch: 1, offset: 0, bytes: … } with a length of 2^40 bytes
        let mut frame = vec![4, 3, b'a', b'#', b'1', 1, 0, 253];
        frame.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        assert!(matches!(decode::<AgentFrame>(&frame), Err(CodecError::Decode(_))));
    }

    #[test]
    fn a_frame_over_the_limit_is_neither_written_nor_read() {
        let job: crate::ids::JobId = "a#1".parse().unwrap();
        let frame = AgentFrame::Output { job, epoch: 1, offset: 0, bytes: vec![0; MAX_MESSAGE] };
        assert!(matches!(encode(&frame), Err(CodecError::TooLong(_))));
        assert!(matches!(decode::<AgentFrame>(&vec![4; MAX_MESSAGE + 1]), Err(CodecError::TooLong(_))));
    }

    #[test]
    fn every_truncation_of_a_frame_is_an_error() {
        let job: crate::ids::JobId = "a#1".parse().unwrap();
        let bytes =
            encode(&AgentFrame::Refused { job, epoch: 1, reason: "no".into(), is_busy: true }).unwrap();
        for len in 0..bytes.len() {
            assert!(decode::<AgentFrame>(&bytes[..len]).is_err(), "length {len}");
        }
    }
}
