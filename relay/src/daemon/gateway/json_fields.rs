//! Finds a few values in a JSON object that arrives in pieces, in bounded memory (pure). Only values at the top and in
//! the objects `response` and `message` are found, each up to a maximum size; everything else is passed over, whatever its size or
//! depth. A text that is not JSON yields values that are not JSON, or none.

/// Maximum size of a value that is kept, in bytes. Usage and errors have a few hundred.
const MAX_VALUE: usize = 8 * 1024;
/// Maximum length of a key that is looked at, in bytes; longer than the keys of all fields.
const MAX_KEY: usize = 16;

/// A value that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `type`: the kind of an event.
    Type,
    /// `usage`, `response.usage` or `message.usage`.
    Usage,
    /// `error` or `response.error`.
    Error,
    /// `model`, `response.model` or `message.model`.
    Model,
    /// `code`, of an event that is itself an error.
    Code,
    /// `message`, of an event that is itself an error.
    Message,
}

/// Number of fields.
const FIELDS: usize = 6;

impl Field {
    fn at_top(key: &[u8]) -> Option<Self> {
        match key {
            b"type" => Some(Self::Type),
            b"code" => Some(Self::Code),
            b"message" => Some(Self::Message),
            other => Self::in_response(other),
        }
    }

    fn in_response(key: &[u8]) -> Option<Self> {
        match key {
            b"usage" => Some(Self::Usage),
            b"error" => Some(Self::Error),
            b"model" => Some(Self::Model),
            _ => None,
        }
    }
}

/// Finds the field of a key.
type FindField = fn(&[u8]) -> Option<Field>;

/// Position in or outside of a string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// After a backslash in a string.
    Escaped,
}

/// Scanner of one JSON object.
#[derive(Debug, Default)]
pub(super) struct JsonFields {
    /// Number of open objects and arrays.
    depth: u64,
    /// True if the text begins with an object.
    is_object: bool,
    /// True within the object `response` or `message`.
    in_response: bool,
    text: Text,
    /// True where the next string is a key whose name matters.
    expects_key: bool,
    key: Vec<u8>,
    /// Field that is being read, and the depth of its key.
    open: Option<(Field, u64)>,
    values: [Vec<u8>; FIELDS],
}

impl JsonFields {
    /// Returns the text of a value, if it was found and is JSON.
    pub(super) fn value(&self, field: Field) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.values[field as usize]).ok()
    }

    /// Takes the next bytes of the text.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = match self.text {
                Text::Outside => self.take_structure(bytes),
                Text::Inside | Text::Escaped => self.take_string(bytes),
            };
            bytes = &bytes[length..];
        }
    }

    /// Takes bytes of a string, up to its end at most. Returns their number.
    fn take_string(&mut self, bytes: &[u8]) -> usize {
        let (length, after) = match (self.text, memchr::memchr2(b'"', b'\\', bytes)) {
            (Text::Escaped, _) => (1, Text::Inside),
            (_, Some(at)) if bytes[at] == b'"' => (at + 1, Text::Outside),
            (_, Some(at)) => (at + 1, Text::Escaped),
            (_, None) => (bytes.len(), Text::Inside),
        };
        self.text = after;
        let text = &bytes[..length];
        if self.expects_key {
            let room = (MAX_KEY + 1).saturating_sub(self.key.len());
            self.key.extend_from_slice(&text[..length.min(room)]);
        }
        self.keep(text);
        length
    }

    /// Takes bytes outside of strings, up to the next one that matters. Returns their number.
    fn take_structure(&mut self, bytes: &[u8]) -> usize {
        let matters = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':');
        let plain = bytes.iter().position(matters).unwrap_or(bytes.len());
        self.keep(&bytes[..plain]);
        let Some(&byte) = bytes.get(plain) else { return plain };
        let ends_value = matches!(byte, b',' | b'}' | b']');
        if ends_value && self.open.is_some_and(|(_, depth)| depth >= self.depth) {
            self.open = None;
        }
        self.keep(&[byte]);
        match byte {
            b'"' => {
                self.text = Text::Inside;
                self.key.clear();
            }
            b'{' | b'[' => self.enter(byte),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_response &= self.depth > 1;
                self.expects_key = false;
            }
            b',' => self.expects_key = self.level().is_some(),
            _ => self.end_key(),
        }
        plain + 1
    }

    fn enter(&mut self, byte: u8) {
        self.is_object |= self.depth == 0 && byte == b'{';
        let is_answer = self.key == b"response\"" || self.key == b"message\"";
        self.in_response |= self.depth == 1 && byte == b'{' && is_answer;
        self.depth = self.depth.saturating_add(1);
        self.expects_key = byte == b'{' && self.level().is_some();
        // The key belongs to the object that was just entered.
        self.key.clear();
    }

    /// Begins a value, if its key is the name of a field.
    fn end_key(&mut self) {
        if !std::mem::take(&mut self.expects_key) {
            return;
        }
        let (Some(find), Some(key)) = (self.level(), self.key.strip_suffix(b"\"")) else { return };
        if let Some(field) = find(key) {
            self.values[field as usize].clear();
            self.open = Some((field, self.depth));
        }
    }

    /// Returns the fields of the object at the current position; `None` where there are none.
    fn level(&self) -> Option<FindField> {
        match self.depth {
            1 if self.is_object => Some(Field::at_top),
            2 if self.in_response => Some(Field::in_response),
            _ => None,
        }
    }

    /// Keeps bytes of the value that is being read. A value that is too large is dropped.
    fn keep(&mut self, bytes: &[u8]) {
        let Some((field, _)) = self.open else { return };
        let value = &mut self.values[field as usize];
        if value.len() + bytes.len() > MAX_VALUE {
            *value = Vec::new();
            self.open = None;
        } else {
            value.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, field: Field) -> Option<serde_json::Value> {
        let mut fields = JsonFields::default();
        fields.feed(text.as_bytes());
        fields.value(field)
    }

    #[test]
    fn a_field_is_found_only_in_its_place() {
        let text = r#" { "x" : [{"usage":1},"usage"], "type":"a\"b" ,"response":{"output":[{"usage":2,"error":3}],
            "usage": {"input_tokens": 5, "d":{"usage":9}} ,"error":null}, "note":{"usage":4}, "code" : 7 }"#;
        assert_eq!(value(text, Field::Type), Some("a\"b".into()));
        assert_eq!(
            value(text, Field::Usage),
            Some(serde_json::json!({"input_tokens": 5, "d": {"usage": 9}}))
        );
        assert_eq!(value(text, Field::Error), Some(serde_json::Value::Null));
        assert_eq!(value(text, Field::Code), Some(7.into()));
        assert_eq!(value(text, Field::Message), None);
    }

    #[test]
    fn a_string_that_looks_like_a_field_is_none() {
        for text in [
            r#"{"a":"\"usage\":1,","b":"usage","c":["usage",1]}"#,
            r#"[{"usage":1}]"#,
            r#""usage":1"#,
            r#"{"response":[{"usage":1}]}"#,
            r#"{"responses":{"usage":1}}"#,
            r#"{"x":"response","y":{"usage":1}}"#,
            r#"{"x":{"response":{"usage":1}}}"#,
        ] {
            assert_eq!(value(text, Field::Usage), None, "{text}");
        }
    }

    #[test]
    fn neither_size_nor_depth_nor_garbage_takes_memory() {
        let mut fields = JsonFields::default();
        fields.feed(b"{\"usage\":[\"");
        let (text, nesting) = (vec![b'x'; 1 << 16], vec![b'['; 1 << 16]);
        for _ in 0..200 {
            fields.feed(&text);
        }
        fields.feed(b"\"],\"");
        for _ in 0..200 {
            fields.feed(&text);
        }
        fields.feed(b"\":");
        for _ in 0..200 {
            fields.feed(&nesting);
        }
        let kept: usize = fields.values.iter().map(Vec::capacity).sum::<usize>() + fields.key.capacity();
        assert!(kept <= FIELDS * 2 * MAX_VALUE, "{kept}");
        assert_eq!(fields.value(Field::Usage), None);
        fields.feed(b"]}]},\"usage\":1}}}}");
    }
}
