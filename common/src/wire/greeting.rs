//! The beginning of `Hello`, frozen for ever: what two programs of any two versions understand of each other.
//!
//! ```text
//! 00 │ protocol_min │ protocol_max │ length, agent │ length, version │ … whatever this protocol says of `Hello`
//! ```
//!
//! Numbers are varints: one byte below 251. A `Hello` has the form of its `protocol_max`, and a later form only adds to
//! the end of an earlier one: a relay reads as much of it as it knows, and takes what follows from a newer agent alone.

use serde::{Deserialize, Serialize};

use super::codec::{self, CodecError};
use super::{AgentFrame, Hello, PROTOCOL, PROTOCOL_MIN};

/// Versions of the protocol that a program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

impl Range {
    /// What this program speaks.
    pub const OWN: Self = Self { min: PROTOCOL_MIN, max: PROTOCOL };

    /// The newest version that both speak.
    pub fn meet(self, other: Self) -> Option<u32> {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        let real = |range: Self| range.min <= range.max;
        (min <= max && real(self) && real(other)).then_some(max)
    }
}

/// What is understood of every `Hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Oldest protocol that the agent speaks.
    pub protocol_min: u32,
    /// Newest protocol that the agent speaks.
    pub protocol_max: u32,
    /// Its id.
    pub agent: String,
    /// Its version.
    pub version: String,
}

/// The first variant of the agent's frames, and as much of it as is frozen.
#[derive(Deserialize)]
enum First {
    Hello(Greeting),
}

/// The beginning of a `Hello` of any version, whatever follows it.
///
/// # Errors
/// [`CodecError`] when the bytes begin otherwise.
pub fn greeting(bytes: &[u8]) -> Result<Greeting, CodecError> {
    let First::Hello(greeting) = codec::decode_beginning(bytes)?;
    Ok(greeting)
}

/// A whole `Hello`: exactly it from an agent of this version or an older one, and what is known of it from a newer one.
///
/// # Errors
/// [`CodecError`] when the bytes are no such frame; `None` inside when they are another one.
pub fn hello(bytes: &[u8], greeting: &Greeting) -> Result<Option<Hello>, CodecError> {
    let newer = greeting.protocol_max > PROTOCOL;
    let frame = if newer { codec::decode_beginning(bytes)? } else { codec::decode(bytes)? };
    Ok(match frame {
        AgentFrame::Hello(hello) => Some(*hello),
        _ => None,
    })
}

/// The version to speak with an agent.
///
/// # Errors
/// One line that names both programs' versions and ranges, when these don't meet.
pub fn negotiate(greeting: &Greeting) -> Result<u32, String> {
    let Greeting { protocol_min: min, protocol_max: max, version, .. } = greeting;
    Range::OWN.meet(Range { min: *min, max: *max }).ok_or_else(|| {
        let (agent, relay) = (crate::text::one_line(version, 20), env!("CARGO_PKG_VERSION"));
        // At most 123 bytes fit into the reason of a close frame.
        format!("agent {agent} speaks protocol {min} to {max}, relay {relay} {PROTOCOL_MIN} to {PROTOCOL}: use one version")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protocol 3 to 300, agent `a1`, version `0.1.0`.
    const FROZEN: &str = "0003fb2c0102613105302e312e30";

    #[test]
    fn the_beginning_of_a_hello_is_read_whatever_follows() {
        let expected =
            Greeting { protocol_min: 3, protocol_max: 300, agent: "a1".into(), version: "0.1.0".into() };
        let mut bytes = hex::decode(FROZEN).unwrap();
        assert_eq!(greeting(&bytes).unwrap(), expected);
        bytes.extend([0xff; 100]);
        assert_eq!(greeting(&bytes).unwrap(), expected);
    }

    #[test]
    fn anything_else_is_no_hello() {
        let bytes = hex::decode(FROZEN).unwrap();
        for len in 0..bytes.len() {
            assert!(greeting(&bytes[..len]).is_err(), "length {len}");
        }
        assert!(greeting(&[&[1], &bytes[1..]].concat()).is_err());
    }

    #[test]
    fn n16_every_combination_of_versions_meets_in_the_newest_of_both_or_not_at_all() {
        let ranges = || (1..=4).flat_map(|min| (1..=4).map(move |max| Range { min, max }));
        let (mut met, mut refused) = (0, 0);
        for agent in ranges() {
            for relay in ranges() {
                let speaks = |range: Range, version: u32| range.min <= version && version <= range.max;
                let expected =
                    (1..=4).rev().find(|version| speaks(agent, *version) && speaks(relay, *version));
                assert_eq!(agent.meet(relay), expected, "{agent:?} and {relay:?}");
                *if expected.is_some() { &mut met } else { &mut refused } += 1;
            }
        }
        assert_eq!((met, refused), (70, 186));
    }

    #[test]
    fn a_refusal_names_both_versions_and_fits_into_a_close_frame() {
        let greeting = |min, max| Greeting {
            protocol_min: min,
            protocol_max: max,
            agent: "a".into(),
            version: "9.0.0".repeat(9),
        };
        assert_eq!(negotiate(&greeting(0, 99)), Ok(PROTOCOL));
        let refusal = negotiate(&greeting(u32::MAX, u32::MAX)).unwrap_err();
        assert!(refusal.contains("agent 9.0.0") && refusal.contains(env!("CARGO_PKG_VERSION")), "{refusal}");
        assert!(refusal.len() <= 123, "{refusal}");
    }

    #[test]
    fn a_newer_agent_s_hello_may_say_more_and_one_of_this_version_may_not() {
        let own = Hello {
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
        };
        for (newest, taken) in [(PROTOCOL + 1, true), (PROTOCOL, false)] {
            let own = Hello { protocol_max: newest, ..own.clone() };
            let mut bytes = codec::encode(&AgentFrame::Hello(Box::new(own.clone()))).unwrap();
            bytes.extend(b"more");
            let read = hello(&bytes, &greeting(&bytes).unwrap());
            assert_eq!(read.ok(), taken.then_some(Some(own)));
        }
    }
}
