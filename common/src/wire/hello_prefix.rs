//! The prefix of `Hello`: the first fields, whose format never changes, so that programs of all versions can read them.
//!
//! ```text
//! 00 │ protocol_min │ protocol_max │ length, agent │ length, version │ … rest of `Hello` in this protocol version
//! ```
//!
//! Numbers are varints; numbers below 251 take one byte. A `Hello` has the format of its `protocol_max`. A newer format
//! is an older one with further fields at the end. A relay reads the fields that it knows, and accepts further bytes
//! only from a newer agent.

use serde::{Deserialize, Serialize};

use super::codec::{self, CodecError};
use super::{AgentFrame, Hello, PROTOCOL, PROTOCOL_MIN, VITALS_PROTOCOL};

/// Protocol versions that a program supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// Oldest version.
    pub min: u32,
    /// Newest version.
    pub max: u32,
}

impl VersionRange {
    /// Versions that this program supports.
    pub const SUPPORTED: Self = Self { min: PROTOCOL_MIN, max: PROTOCOL };

    /// Returns the newest version that both programs support.
    pub fn newest_common(self, other: Self) -> Option<u32> {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        let is_valid = |range: Self| range.min <= range.max;
        (min <= max && is_valid(self) && is_valid(other)).then_some(max)
    }
}

/// The first fields of `Hello`, which a relay of every version can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloPrefix {
    /// Oldest protocol version that the agent supports.
    pub protocol_min: u32,
    /// Newest protocol version that the agent supports.
    pub protocol_max: u32,
    /// Id of the agent.
    pub agent: String,
    /// Version of the agent.
    pub version: String,
}

/// Encoding of the field `vitals` if there are none. A `Hello` of an older protocol version ends before this byte.
const NO_VITALS: u8 = 0;

/// The first variant of [`AgentFrame`], with only the prefix of `Hello`.
#[derive(Deserialize)]
enum FirstFrame {
    Hello(HelloPrefix),
}

/// Decodes the prefix of a `Hello` of any version and ignores the rest.
///
/// # Errors
/// Returns a [`CodecError`] if the bytes do not begin like a `Hello`.
pub fn decode_hello_prefix(bytes: &[u8]) -> Result<HelloPrefix, CodecError> {
    let FirstFrame::Hello(prefix) = codec::decode_beginning(bytes)?;
    Ok(prefix)
}

/// Decodes a whole `Hello`. Ignores fields of a newer version.
///
/// # Errors
/// Returns a [`CodecError`] if the bytes are not a frame of the agent. Returns `None` for a frame other than `Hello`.
pub fn decode_hello(bytes: &[u8], prefix: &HelloPrefix) -> Result<Option<Hello>, CodecError> {
    let frame = match prefix.protocol_max {
        newer if newer > PROTOCOL => codec::decode_beginning(bytes)?,
        older if older < VITALS_PROTOCOL => codec::decode(&[bytes, &[NO_VITALS]].concat())?,
        _ => codec::decode(bytes)?,
    };
    Ok(match frame {
        AgentFrame::Hello(hello) => Some(*hello),
        _ => None,
    })
}

/// Encodes a `Hello` in the format of its `protocol_max`.
///
/// # Errors
/// Returns [`CodecError::TooLong`] if it does not fit into one message.
pub fn encode_hello(hello: Hello) -> Result<Vec<u8>, CodecError> {
    let has_vitals = hello.protocol_max >= VITALS_PROTOCOL;
    let vitals = hello.vitals.filter(|_| has_vitals);
    let mut bytes = codec::encode(&AgentFrame::Hello(Box::new(Hello { vitals, ..hello })))?;
    if !has_vitals {
        bytes.pop();
    }
    Ok(bytes)
}

/// Returns the protocol version for the connection with an agent: the newest that both programs support.
///
/// # Errors
/// Returns one line that names both programs' versions and ranges if there is no common version.
pub fn negotiate(prefix: &HelloPrefix) -> Result<u32, String> {
    let HelloPrefix { protocol_min: min, protocol_max: max, version, .. } = prefix;
    VersionRange::SUPPORTED.newest_common(VersionRange { min: *min, max: *max }).ok_or_else(|| {
        let (agent, relay) = (crate::text_format::one_line(version, 20), env!("CARGO_PKG_VERSION"));
        // The reason of a close frame has at most 123 bytes.
        format!("agent {agent} speaks protocol {min} to {max}, relay {relay} {PROTOCOL_MIN} to {PROTOCOL}: use one version")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefix of a `Hello` in hexadecimal: protocol 3 to 300, agent `a1`, version `0.1.0`.
    const FROZEN: &str = "0003fb2c0102613105302e312e30";

    #[test]
    fn the_prefix_of_a_hello_is_read_whatever_follows() {
        let expected =
            HelloPrefix { protocol_min: 3, protocol_max: 300, agent: "a1".into(), version: "0.1.0".into() };
        let mut bytes = hex::decode(FROZEN).unwrap();
        assert_eq!(decode_hello_prefix(&bytes).unwrap(), expected);
        bytes.extend([0xff; 100]);
        assert_eq!(decode_hello_prefix(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_truncated_prefix_and_another_kind_of_frame_are_refused() {
        let bytes = hex::decode(FROZEN).unwrap();
        for len in 0..bytes.len() {
            assert!(decode_hello_prefix(&bytes[..len]).is_err(), "length {len}");
        }
        assert!(decode_hello_prefix(&[&[1], &bytes[1..]].concat()).is_err());
    }

    #[test]
    fn n16_every_combination_of_versions_meets_in_the_newest_of_both_or_not_at_all() {
        let ranges = || (1..=4).flat_map(|min| (1..=4).map(move |max| VersionRange { min, max }));
        let (mut accepted, mut refused) = (0, 0);
        for agent in ranges() {
            for relay in ranges() {
                let supports =
                    |range: VersionRange, version: u32| range.min <= version && version <= range.max;
                let expected =
                    (1..=4).rev().find(|version| supports(agent, *version) && supports(relay, *version));
                assert_eq!(agent.newest_common(relay), expected, "{agent:?} and {relay:?}");
                *if expected.is_some() { &mut accepted } else { &mut refused } += 1;
            }
        }
        assert_eq!((accepted, refused), (70, 186));
    }

    #[test]
    fn a_refusal_names_both_versions_and_fits_into_a_close_frame() {
        let prefix = |min, max| HelloPrefix {
            protocol_min: min,
            protocol_max: max,
            agent: "a".into(),
            version: "9.0.0".repeat(9),
        };
        assert_eq!(negotiate(&prefix(0, 99)), Ok(PROTOCOL));
        let refusal = negotiate(&prefix(u32::MAX, u32::MAX)).unwrap_err();
        assert!(refusal.contains("agent 9.0.0") && refusal.contains(env!("CARGO_PKG_VERSION")), "{refusal}");
        assert!(refusal.len() <= 123, "{refusal}");
    }

    #[test]
    fn only_the_hello_of_a_newer_agent_may_have_further_bytes() {
        let hello = Hello {
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL + 1,
            agent: "a1".into(),
            version: "9.0.0".into(),
            max_jobs: 4,
            platform: crate::wire::Platform {
                system: "linux x86_64".into(),
                isolation: crate::event::Isolation::Container,
                codex: None,
                codex_problem: None,
            },
            jobs: Vec::new(),
            vitals: None,
        };
        for (newest, is_accepted) in [(PROTOCOL + 1, true), (PROTOCOL, false)] {
            let hello = Hello { protocol_max: newest, ..hello.clone() };
            let mut bytes = codec::encode(&AgentFrame::Hello(Box::new(hello.clone()))).unwrap();
            bytes.extend(b"more");
            let read = decode_hello(&bytes, &decode_hello_prefix(&bytes).unwrap());
            assert_eq!(read.ok(), is_accepted.then_some(Some(hello)));
        }
    }
}
