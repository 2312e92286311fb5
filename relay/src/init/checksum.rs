//! Checksum inside a text that init wrote. While the checksum matches, the text is unchanged.

use sha2::{Digest, Sha256};

const PLACEHOLDER: &str = "(checksum @sum@)";
/// Text before the checksum.
const BEFORE_CHECKSUM: &str = "(checksum ";
/// Number of hexadecimal digits of a checksum: 64 bits are enough to detect an accidental change.
const CHECKSUM_DIGITS: usize = 16;

/// Replaces `(checksum @sum@)` in a text with its checksum.
pub(super) fn with_checksum(text: &str) -> String {
    text.replacen(PLACEHOLDER, &format!("{BEFORE_CHECKSUM}{})", checksum_of(text)), 1)
}

/// Returns true if a text is unchanged since a version of init wrote it. Changed line endings are ignored, because git
/// may convert them.
pub(super) fn is_unchanged(text: &str) -> bool {
    let text = text.replace("\r\n", "\n");
    let Some(marker_start) = text.find(BEFORE_CHECKSUM) else { return false };
    let checksum_start = marker_start + BEFORE_CHECKSUM.len();
    let Some(written_checksum) = text.get(checksum_start..checksum_start + CHECKSUM_DIGITS) else {
        return false;
    };
    let Some(text_after) =
        text.get(checksum_start + CHECKSUM_DIGITS..).and_then(|text_after| text_after.strip_prefix(')'))
    else {
        return false;
    };
    let text_before = text.get(..marker_start).unwrap_or_default();
    written_checksum == checksum_of(&format!("{text_before}{PLACEHOLDER}{text_after}"))
}

fn checksum_of(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text.as_bytes()));
    digits.truncate(CHECKSUM_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_checksum_is_unchanged_until_one_of_its_bytes_changes() {
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
