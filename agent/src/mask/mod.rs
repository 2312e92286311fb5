//! Masking of secrets by value, in everything that leaves a job. Pure.
//!
//! ```text
//!  (name, value) ─► secrets: values and the parts of them (secret_parts)
//!                     │
//!                     ├─► prefixes: first bytes in each encoding ─► index: their places in a text ─► masker:
//!                     └────────────────────► compare (escapes, ansi): match of the rest ──────► `***NAME***`
//!                                                                                                 │
//!                            output in pieces ─► stream ◄─────────────────────────────────────────┤
//!                            events           ─► events ◄─────────────────────────────────────────┘
//! ```
//!
//! A value is found
//! * unencoded, also with terminal colours (`ESC [ … m`) in between;
//! * with the backslashes of JSON (any character as `\u0073`), Python and `printf %q`, up to three levels deep;
//! * in the single quotes of a shell, with doubled quotes (YAML, CSV, SQL) or HTML entities, also within such JSON;
//! * percent-encoded once or twice;
//! * in base64 (both alphabets, at any offset, wrapped in lines too), also of UTF-16 (PowerShell), and in hex.
//!
//! Only the listed nested encodings are found. The masker finds neither base64 of an encoded value, nor values that
//! contain hyperlinks or other terminal sequences.
//!
//! Parts of a value are secrets of their own: lines, passwords and tokens in addresses, and the strings of a JSON
//! document ([`secret_parts`]). The size of the index depends on the number of secrets, not on their length. The number
//! of parts is limited; further parts are found only within the whole value. The number of prefixes in the index is
//! limited, too: further values are found only in their plain form.
//!
//! The documentation of [`secrets`] lists the values that are not masked.

mod ansi;
mod compare;
mod escapes;
mod events;
mod index;
mod masker;
mod prefix_match;
mod prefixes;
mod secret_parts;
mod secrets;
mod stream;

#[cfg(test)]
mod encoded_output_tests;
#[cfg(test)]
mod tests;

pub(crate) use masker::Masker;
pub(crate) use secrets::Secrets;
pub(crate) use stream::MaskedStream;
