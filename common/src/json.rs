//! Writes JSON that is safe to display: characters that could affect a terminal, a page or a language model are
//! written as `\u` escapes, which parse as the same text.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::text_format::{is_dangerous, is_printable_ascii};

/// Formatter that writes dangerous characters as `\u` escapes and everything else as serde does.
struct EscapingFormatter;

impl Formatter for EscapingFormatter {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        if is_printable_ascii(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut written_len = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| is_dangerous(*c)) {
            writer.write_all(&fragment.as_bytes()[written_len..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written_len = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written_len..])
    }
}

/// Writes a value as JSON.
///
/// # Errors
/// Same as [`serde_json::to_writer`].
pub fn to_writer(writer: impl io::Write, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(writer, EscapingFormatter))
}

/// Returns a value as JSON bytes.
///
/// # Errors
/// Same as [`serde_json::to_vec`].
pub fn to_vec(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    to_writer(&mut bytes, value)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_characters_are_escaped_and_parsed_as_the_same_text() {
        let text = "a\u{9b}31m\u{2028}\u{202e}b\u{7f}\u{e0041}ü\n\"";
        let bytes = to_vec(&serde_json::json!({ "k": text })).unwrap();
        let expected = r#"{"k":"a\u009b31m\u2028\u202eb\u007f\udb40\udc41ü\n\""}"#;
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["k"], text);
    }
}
