//! Titles of steps: short, and without the passwords in addresses. Pure.

use common::text_format;

use super::programs::base_name;
use super::shell_lexer::Word;

/// Maximum length of a title, in characters: with its kind, number and time it fits on one line of a terminal.
pub(super) const MAX_TITLE: usize = 60;

/// Maximum length of a host with its port, in bytes. Anything longer is the beginning of a truncated secret.
const MAX_HOST: usize = 260;

/// Maximum number of bytes of a command that are read for its title. The rest would not be shown.
const MAX_READ: usize = 1024;

/// Returns the title of a simple command: the program without its folder, and its words.
pub(super) fn from_words(words: &[Word]) -> String {
    let mut title = String::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            title.push(' ');
        }
        let program = Some(base_name(&word.text)).filter(|name| at == 0 && !name.is_empty());
        title.push_str(program.unwrap_or(&word.raw));
        if title.len() > MAX_READ {
            break;
        }
    }
    shorten(&title, false)
}

/// Returns the title of a whole command line: its first line that is neither empty nor a comment.
pub(super) fn from_line(line: &str) -> String {
    let mut lines = line.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().unwrap_or_else(|| line.trim());
    shorten(first, lines.next().is_some())
}

fn shorten(title: &str, is_incomplete: bool) -> String {
    // In the usual case the title is shown unchanged.
    if title.len() <= MAX_TITLE
        && text_format::is_printable_ascii(title)
        && !title.contains("  ")
        && !title.contains("://")
    {
        return truncate_at_word(title.trim(), is_incomplete);
    }
    let blanks = title.split_whitespace().collect::<Vec<_>>().join(" ");
    // Secrets are masked before the title is truncated, because half of an address would not be recognised.
    let clean = mask_credentials(&text_format::to_printable(&blanks));
    truncate_at_word(&text_format::one_line(&clean, MAX_READ), is_incomplete)
}

/// Truncates a title after a word, unless that would leave less than half of the maximum length.
fn truncate_at_word(title: &str, is_incomplete: bool) -> String {
    let length = title.chars().count();
    if length <= MAX_TITLE && !(is_incomplete && length + 2 > MAX_TITLE) {
        return if is_incomplete { format!("{title} …") } else { title.to_owned() };
    }
    let prefix: String = title.chars().take(MAX_TITLE - 1).collect();
    match prefix.rfind(' ').filter(|&at| at >= MAX_TITLE / 2) {
        Some(at) => format!("{} …", prefix[..at].trim_end()),
        None => format!("{prefix}…"),
    }
}

/// Replaces the user and password of every address with `***`, also a part of them that is longer than a host can be.
fn mask_credentials(title: &str) -> String {
    let mut out = String::new();
    let mut rest = title;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || "/?#'\"`".contains(c)).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(at) => {
                out.push_str("***");
                rest = &after[at..];
            }
            None if end > MAX_HOST => {
                out.push_str("***");
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_masked() {
        for (line, title) in [
            ("git clone https://user:token@host/x.git", "git clone https://***@host/x.git"),
            ("curl http://a:b@c@host:80 ftp://t@h", "curl http://***@host:80 ftp://***@h"),
            ("curl 'https://t\u{200b}o:k@h'", "curl 'https://***@h'"),
            ("curl https://host/a@b?c@d", "curl https://host/a@b?c@d"),
            ("git clone git@host:x.git", "git clone git@host:x.git"),
            ("curl ht\u{1b}tps://u:p@", "curl https://***@"),
            ("://", "://"),
        ] {
            assert_eq!(from_line(line), title, "{line}");
        }
    }

    #[test]
    fn a_truncated_secret_is_not_shown() {
        let title = from_line(&format!("git clone https://user:{}@host/x.git", "s3cret".repeat(20)));
        assert_eq!(title, "git clone https://***@host/x.git");
        let title = from_line(&format!("git clone https://user:{}@host/x.git", "s3cret".repeat(1000)));
        assert_eq!(title, "git clone https://***@host/x.git");
        let title = from_line(&format!("git clone https://user:{}", "s3cret".repeat(1000)));
        assert_eq!(title, "git clone https://***");
    }

    #[test]
    fn a_title_is_one_line_of_at_most_sixty_characters_that_ends_with_a_word() {
        let words =
            "cargo test --workspace --all-targets --no-fail-fast --features one,two,three -- --nocapture";
        assert_eq!(from_line(words), "cargo test --workspace --all-targets --no-fail-fast …");
        assert_eq!(from_line("set -e\n\nnpm ci\n"), "set -e …");
        assert_eq!(from_line("# first\n\n a\t \x07b\n# last"), "a b");
        assert_eq!(from_line(" \n"), "");
        for length in 55..70 {
            assert!(from_line(&format!("{}\nmore", "ä".repeat(length))).chars().count() <= MAX_TITLE);
            assert!(from_line(&"ä ".repeat(length)).chars().count() <= MAX_TITLE);
        }
    }
}
