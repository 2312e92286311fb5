//! Arguments and environment of a process, bounded.

use common::text_format;

/// Maximum number of bytes of arguments that are kept.
pub(super) const MAX_TOTAL_ARGUMENT_BYTES: usize = 4096;
/// Maximum number of arguments that are kept.
const MAX_ARGUMENTS: usize = 64;
/// Maximum number of bytes of an environment that are searched: twice the maximum length of one variable.
pub(super) const MAX_ENVIRONMENT: usize = 256 * 1024;
/// Maximum length of a valid call id, in bytes. Codex's ids have 41.
const MAX_CALL_ID: usize = 128;

/// Returns the arguments in `/proc/PID/cmdline`. Empty arguments at the end are dropped: a program that shortened its
/// title leaves them behind.
pub(super) fn arguments(cmdline: &[u8]) -> Vec<String> {
    let end = cmdline.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut remaining_bytes = MAX_TOTAL_ARGUMENT_BYTES;
    let mut words = Vec::new();
    if end == 0 {
        return words;
    }
    for word in cmdline[..end].split(|byte| *byte == 0).take(MAX_ARGUMENTS) {
        let word = String::from_utf8_lossy(word);
        if word.len() > remaining_bytes {
            words.push(text_format::truncate(&word, remaining_bytes));
            break;
        }
        remaining_bytes -= word.len();
        words.push(word.into_owned());
    }
    words
}

/// Returns Codex's id of the call that this process belongs to, from `/proc/PID/environ`.
pub(super) fn call_id(environ: &[u8]) -> Option<&str> {
    let value =
        environ.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"CODEX_TOOL_CALL_ID="))?;
    std::str::from_utf8(value).ok().filter(|id| !id.is_empty() && id.len() <= MAX_CALL_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_and_zeros_after_a_shortened_title_are_dropped() {
        assert_eq!(arguments(b"sh\0-c\0a\nb (c)\0"), ["sh", "-c", "a\nb (c)"]);
        assert_eq!(arguments(b"npm install\0\0\0\0"), ["npm install"]);
        assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(arguments(b"\xff\0"), ["\u{fffd}"]);
        assert_eq!(arguments(b""), [""; 0]);
    }

    #[test]
    fn arguments_are_bounded_in_number_and_bytes() {
        assert_eq!(arguments(&b"x\0".repeat(1000)).len(), MAX_ARGUMENTS);
        let bytes = |words: Vec<String>| words.iter().map(String::len).sum::<usize>();
        assert_eq!(bytes(arguments(&vec![b'x'; 10_000])), MAX_TOTAL_ARGUMENT_BYTES);
        assert!(bytes(arguments(&vec![0xff; 4096])) <= MAX_TOTAL_ARGUMENT_BYTES);
    }

    #[test]
    fn a_call_id_is_found_only_in_its_variable_and_if_it_is_short() {
        assert_eq!(call_id(b"A=1\0CODEX_TOOL_CALL_ID=call_1\0B=2\0"), Some("call_1"));
        assert_eq!(call_id(b"NOT_CODEX_TOOL_CALL_ID=call_1\0CODEX_TOOL_CALL_ID=\0"), None);
        let long = [b"CODEX_TOOL_CALL_ID=".as_slice(), &[b'x'; 129]].concat();
        assert_eq!(call_id(&long), None);
    }
}
