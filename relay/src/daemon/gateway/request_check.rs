//! Check of a worker's request as it passes, in bounded memory (pure): parameters with which the model would work
//! without being metered, or cost more than its tokens, and tools that connect to hosts of the worker's choice.

use std::mem;

/// Maximum length of a key or value that is kept, in bytes; longer than all that matter.
const MAX_KEPT: usize = 64;
/// Processing tiers that cost no more than a model's price.
const PLAIN_TIERS: [&str; 4] = ["auto", "default", "flex", "standard_only"];
/// Beginnings of the names of tools that run at the model's server and have a price of their own. Codex sends
/// `web_search` unless it is switched off, so it is not among them.
const HOSTED_TOOLS: [&str; 7] =
    ["code_execution", "code_interpreter", "computer", "file_search", "image_generation", "mcp", "shell"];
/// Beginnings of the names of tools with which the model's server connects to hosts that the worker names. In a web search
/// the provider chooses them.
const CONNECTING_TOOLS: [&str; 5] = ["code_interpreter", "computer", "mcp", "shell", "web_fetch"];

/// Reason why a request is not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    /// The body is not a JSON object in UTF-8.
    #[error("its body is not a JSON object")]
    NotJson,
    /// A key is written in a form that could hide its name.
    #[error("a key of its body is written with an escape sequence")]
    EscapedKey,
    /// The server could use another model than the one that is charged.
    #[error("its body names a model twice")]
    SecondModel,
    /// The answer would come later, where it is not metered.
    #[error("background must be false: the gateway counts the tokens of answers as they pass")]
    Background,
    /// The tier costs more than the model's price.
    #[error("service_tier is not allowed for a job with a cost limit, unless your Codex is set to it")]
    ServiceTier,
    /// The tool costs more than its tokens.
    #[error("a tool that runs at the model's server is not allowed for a job with a cost limit: {0}")]
    HostedTool(String),
    /// The mode costs more than the model's price.
    #[error("speed must be standard for a job with a cost limit")]
    Speed,
    /// The tool would reach hosts that the job itself can't reach.
    #[error(
        "a tool with which the model's server connects to other hosts is not allowed for a job that reaches only the hosts \
         in [network] allow: {0}"
    )]
    ConnectingTool(String),
}

/// Rules for the requests of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestRules {
    /// True if the job's cost is limited.
    pub(super) has_cost_limit: bool,
    /// Processing tier that the user's own Codex is set to.
    pub(super) own_tier: Option<String>,
    /// True if the job reaches only the hosts of a list.
    pub(super) has_allowed_hosts: bool,
}

/// Part of the text that is being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// After a backslash in a string.
    Escaped,
}

/// A key whose value is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Background,
    McpServers,
    Model,
    ServiceTier,
    Speed,
    Tools,
    ToolType,
}

/// Check of one request.
#[derive(Debug, Default)]
pub(super) struct RequestCheck {
    rules: RequestRules,
    depth: u64,
    has_begun: bool,
    text: Text,
    /// True where the next string is a key.
    expects_key: bool,
    in_tools: bool,
    /// Field whose value is being read.
    open: Option<Field>,
    /// Bytes of the key or value that is being read.
    kept: Vec<u8>,
    model: Option<String>,
}

impl RequestCheck {
    /// Creates the check of a request.
    pub(super) fn new(rules: RequestRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Returns the model that the request asks for, once it is known.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// Returns the reason why the request must not be passed on.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), RequestError> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.text == Text::Outside {
                self.take_structure(first)?;
                bytes = rest;
            } else {
                bytes = &bytes[self.take_string(bytes)?..];
            }
        }
        Ok(())
    }

    /// Takes bytes of a string, up to its end at most. Returns their number.
    fn take_string(&mut self, bytes: &[u8]) -> Result<usize, RequestError> {
        let (length, after) = match (self.text, memchr::memchr2(b'"', b'\\', bytes)) {
            (Text::Escaped, _) => (1, Text::Inside),
            (_, Some(at)) if bytes[at] == b'"' => (at + 1, Text::Outside),
            (_, Some(at)) => (at + 1, Text::Escaped),
            (_, None) => (bytes.len(), Text::Inside),
        };
        if self.expects_key && after == Text::Escaped {
            return Err(RequestError::EscapedKey);
        }
        self.text = after;
        self.keep(&bytes[..length]);
        Ok(length)
    }

    fn take_structure(&mut self, byte: u8) -> Result<(), RequestError> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(()),
            // Another encoding than UTF-8 has zeros.
            0 => return Err(RequestError::NotJson),
            _ if !self.has_begun && byte != b'{' => return Err(RequestError::NotJson),
            b',' | b'}' | b']' => self.end_value()?,
            _ => {}
        }
        self.has_begun = true;
        match byte {
            b':' if self.expects_key => self.end_key(),
            b'{' | b'[' => {
                self.in_tools |= self.depth == 1 && self.open == Some(Field::Tools);
                self.keep(&[byte]);
                self.depth = self.depth.saturating_add(1);
                self.expects_key = byte == b'{' && self.has_fields();
                if self.expects_key {
                    self.kept.clear();
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_tools &= self.depth > 1;
                self.expects_key = false;
            }
            b',' => {
                self.expects_key = self.has_fields();
                if self.expects_key {
                    self.kept.clear();
                }
            }
            b'"' => {
                self.text = Text::Inside;
                self.keep(b"\"");
            }
            _ => self.keep(&[byte]),
        }
        Ok(())
    }

    /// Returns true in the objects whose fields are checked.
    fn has_fields(&self) -> bool {
        self.depth == 1 || (self.in_tools && self.depth == 3)
    }

    fn end_key(&mut self) {
        self.expects_key = false;
        self.open = match (self.depth, &*mem::take(&mut self.kept)) {
            (1, b"\"background\"") => Some(Field::Background),
            (1, b"\"mcp_servers\"") => Some(Field::McpServers),
            (1, b"\"model\"") => Some(Field::Model),
            (1, b"\"service_tier\"") => Some(Field::ServiceTier),
            (1, b"\"speed\"") => Some(Field::Speed),
            (1, b"\"tools\"") => Some(Field::Tools),
            (3, b"\"type\"") => Some(Field::ToolType),
            _ => None,
        };
    }

    /// Checks the value that has ended.
    fn end_value(&mut self) -> Result<(), RequestError> {
        let Some(field) = self.open.filter(|_| self.has_fields()) else { return Ok(()) };
        self.open = None;
        let value: Option<serde_json::Value> = serde_json::from_slice(&self.kept).ok();
        let text = value.as_ref().and_then(serde_json::Value::as_str);
        let is_limited = self.rules.has_cost_limit;
        match field {
            Field::Model if self.model.is_some() => Err(RequestError::SecondModel),
            Field::Model => {
                self.model = text.map(str::to_owned);
                Ok(())
            }
            Field::Background if !matches!(&*self.kept, b"false" | b"null") => Err(RequestError::Background),
            Field::ServiceTier if is_limited && !self.allows_tier(text) => Err(RequestError::ServiceTier),
            Field::Speed if is_limited && !(text == Some("standard") || self.kept == b"null") => {
                Err(RequestError::Speed)
            }
            // The end of an empty array is not kept.
            Field::McpServers if self.rules.has_allowed_hosts && !matches!(&*self.kept, b"null" | b"[") => {
                Err(RequestError::ConnectingTool("mcp_servers".to_owned()))
            }
            Field::ToolType => self.check_tool(text),
            _ => Ok(()),
        }
    }

    /// Checks the type of a tool; `None` if it is no text of a usual length.
    fn check_tool(&self, kind: Option<&str>) -> Result<(), RequestError> {
        let is_one_of =
            |names: &[&str]| kind.is_none_or(|kind| names.iter().any(|name| kind.starts_with(name)));
        let name = || kind.unwrap_or("unknown").to_owned();
        if self.rules.has_allowed_hosts && is_one_of(&CONNECTING_TOOLS) {
            return Err(RequestError::ConnectingTool(name()));
        }
        if self.rules.has_cost_limit && is_one_of(&HOSTED_TOOLS) {
            return Err(RequestError::HostedTool(name()));
        }
        Ok(())
    }

    fn allows_tier(&self, tier: Option<&str>) -> bool {
        let Some(tier) = tier else { return self.kept == b"null" };
        let own = self.rules.own_tier.as_deref();
        // Codex calls the tier `priority` `fast`.
        PLAIN_TIERS.contains(&tier) || own == Some(tier) || (tier == "priority" && own == Some("fast"))
    }

    /// Keeps bytes of a key, or of a value that is checked.
    fn keep(&mut self, bytes: &[u8]) {
        if self.expects_key || self.open.is_some() {
            let room = MAX_KEPT.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a body that arrives in pieces of each of a few sizes.
    fn check(rules: &RequestRules, body: &[u8]) -> Result<(), RequestError> {
        let in_pieces = |size: usize| {
            let mut check = RequestCheck::new(rules.clone());
            body.chunks(size).try_for_each(|piece| check.feed(piece))
        };
        let result = in_pieces(usize::MAX);
        assert_eq!((in_pieces(1), in_pieces(7)), (result.clone(), result.clone()));
        result
    }

    #[test]
    fn no_request_gets_its_answer_in_the_background() {
        let check = |body: &str| check(&RequestRules::default(), body.as_bytes());
        for body in [
            r#"{"background":true}"#,
            "\n{ \"model\" : \"m\", \"background\" : true , \"x\":1}",
            r#"{"background":true,"background":false}"#,
            r#"{"background":1}"#,
            r#"{"background":"true"}"#,
            r#"{"background":[false]}"#,
            r#"{"background":[true,false]}"#,
            r#"{"input":[{"a":"}]\""}],"background":true}"#,
        ] {
            assert_eq!(check(body), Err(RequestError::Background), "{body}");
        }
        for body in [
            "",
            "{}",
            r#"{"background":false,"service_tier":"priority","tools":[{"type":"mcp"}]}"#,
            r#"{"background":null}"#,
            r#"{"input":[{"background":true}],"metadata":{"background":true}}"#,
            r#"{"input":"\"background\":true,","x\\":"}"#,
        ] {
            assert!(!matches!(check(body), Err(RequestError::Background)), "{body}");
        }
    }

    #[test]
    fn the_model_of_a_request_is_found() {
        let mut check = RequestCheck::new(RequestRules::default());
        check.feed(br#"{"input":{"model":"other"},"model":"gpt-5""#).unwrap();
        assert_eq!(check.model(), None);
        check.feed(b",").unwrap();
        assert_eq!(check.model(), Some("gpt-5"));
        assert_eq!(check.feed(br#""model":"gpt-5","#), Err(RequestError::SecondModel));
    }

    #[test]
    fn a_body_that_could_hide_a_parameter_is_refused() {
        let rules = RequestRules::default();
        assert_eq!(check(&rules, br#"{"\u0062ackground":true}"#), Err(RequestError::EscapedKey));
        assert_eq!(check(&rules, br#"{"input":{"\u0062":"\n"},"a":"\\"}"#), Ok(()));
        let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "{\"background\":true}".encode_utf16().flat_map(bytes).collect()
        };
        for body in
            [&utf16(u16::to_le_bytes)[..], &utf16(u16::to_be_bytes), b"[]", b"\xef\xbb\xbf{}", b"x", b"\"a\""]
        {
            assert_eq!(check(&rules, body), Err(RequestError::NotJson), "{body:?}");
        }
    }

    #[test]
    fn with_a_cost_limit_a_worker_can_t_choose_what_costs_more() {
        let own = |tier: Option<&str>| RequestRules {
            has_cost_limit: true,
            own_tier: tier.map(str::to_owned),
            ..RequestRules::default()
        };
        let tier =
            |tier: &str, rules| check(&rules, format!("{{\"service_tier\":{tier},\"a\":[]}}").as_bytes());
        for allowed in ["null", "\"auto\"", "\"default\"", "\"flex\""] {
            assert_eq!(tier(allowed, own(None)), Ok(()));
        }
        for refused in ["\"priority\"", "\"\\u0070riority\"", "\"scale\"", "{\"a\":1}", "1"] {
            assert_eq!(tier(refused, own(None)), Err(RequestError::ServiceTier), "{refused}");
        }
        assert_eq!(tier("\"priority\"", own(Some("fast"))), Ok(()));
        let tools = |tools: &str| check(&own(None), format!("{{\"tools\":[{tools}],\"b\":1}}").as_bytes());
        let function = r#"{"name":"f","parameters":{"type":"mcp","a":[{"type":"mcp"}]},"type":"function"}"#;
        assert_eq!(tools(&format!("{function},{{\"type\":\"web_search\"}}")), Ok(()));
        let hosted = Err(RequestError::HostedTool("image_generation".to_owned()));
        assert_eq!(tools(&format!("{function},{{\"a\":1,\"type\":\"image_generation\"}}")), hosted);
        assert!(tools(r#"{"\u0074ype":"mcp"}"#).is_err() && tools(r#"{"type":{"a":1}}"#).is_err());
        let speed = |speed: &str, rules| check(&rules, format!("{{\"speed\":{speed},\"a\":1}}").as_bytes());
        assert_eq!(speed("\"fast\"", RequestRules::default()), Ok(()));
        for (value, expected) in
            [("\"standard\"", Ok(())), ("null", Ok(())), ("\"fast\"", Err(RequestError::Speed))]
        {
            assert_eq!(speed(value, own(None)), expected);
        }
    }

    #[test]
    fn with_a_list_of_hosts_no_tool_connects_to_hosts_that_the_worker_names() {
        let kept = RequestRules { has_allowed_hosts: true, ..RequestRules::default() };
        let tool = |rules: &RequestRules, kind: &str| {
            check(rules, format!("{{\"tools\":[{{\"type\":{kind},\"name\":\"x\"}}]}}").as_bytes())
        };
        for kind in ["mcp", "mcp_toolset", "web_fetch_20250910", "computer_use_preview", "code_interpreter"] {
            let refused = Err(RequestError::ConnectingTool(kind.to_owned()));
            assert_eq!(tool(&kept, &format!("\"{kind}\"")), refused);
            assert_eq!(tool(&RequestRules::default(), &format!("\"{kind}\"")), Ok(()));
        }
        for kind in ["function", "custom", "local_shell", "web_search", "web_search_20250305"] {
            assert_eq!(tool(&kept, &format!("\"{kind}\"")), Ok(()), "{kind}");
        }
        for kind in ["{\"a\":1}", "7", &format!("\"{}\"", "x".repeat(MAX_KEPT))] {
            assert!(tool(&kept, kind).is_err(), "{kind}");
        }
        let servers =
            |servers: &str| check(&kept, format!("{{\"mcp_servers\":{servers},\"a\":1}}").as_bytes());
        for empty in ["null", "[]", "[ ]"] {
            assert_eq!(servers(empty), Ok(()), "{empty}");
        }
        for named in ["[{\"type\":\"url\",\"url\":\"https://h\"}]", "[[]]", "[\"\"]", "{}", "\"x\""] {
            let refused = Err(RequestError::ConnectingTool("mcp_servers".to_owned()));
            assert_eq!(servers(named), refused, "{named}");
        }
    }
}
