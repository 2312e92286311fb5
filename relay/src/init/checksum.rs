//! A checksum inside a text written by init. While it matches, the text is unchanged.

use sha2::{Digest, Sha256};

const PLACEHOLDER: &str = "(checksum @sum@)";
/// Text before the checksum.
const BEFORE_CHECKSUM: &str = "(checksum ";
/// Number of hexadecimal digits: 64 bits are enough to detect an accidental change.
const DIGITS: usize = 16;

/// Replaces `(checksum @sum@)` in a text with its checksum.
pub(super) fn with_checksum(text: &str) -> String {
    text.replacen(PLACEHOLDER, &format!("{BEFORE_CHECKSUM}{})", checksum_of(text)), 1)
}

/// Returns true if a text is unchanged since a version of init wrote it. Changed line endings are ignored, because git
/// may convert them.
pub(super) fn is_unchanged(text: &str) -> bool {
    let text = text.replace("\r\n", "\n");
    let Some(open) = text.find(BEFORE_CHECKSUM) else { return false };
    let start = open + BEFORE_CHECKSUM.len();
    let Some(found) = text.get(start..start + DIGITS) else { return false };
    let Some(rest) = text.get(start + DIGITS..).and_then(|rest| rest.strip_prefix(')')) else { return false };
    let before = text.get(..open).unwrap_or_default();
    found == checksum_of(&format!("{before}{PLACEHOLDER}{rest}"))
}

fn checksum_of(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text.as_bytes()));
    digits.truncate(DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_text_is_untouched_until_a_byte_of_it_changes() {
        let text = with_checksum("# by init (checksum @sum@)\na = 1\n");
        assert!(is_unchanged(&text), "{text}");
        assert!(is_unchanged(&text.replace('\n', "\r\n")));
        for changed in
            [text.replace('1', "2"), format!("{text}\n"), text.replace("# by", "by"), text.replace(')', "")]
        {
            assert!(!is_unchanged(&changed), "{changed}");
        }
        assert!(!is_unchanged("a = 1\n"));
        assert!(!is_unchanged("(checksum "));
        assert!(!is_unchanged("(checksum äöüäöüäöüäöü)"));
    }
}
