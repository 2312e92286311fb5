//! Versions of programs.

/// Version of a program, as three numbers.
pub type Version = (u32, u32, u32);

/// Parses a version such as `0.169.0`, `v0.169.0` or `0.169.0-alpha.1`. Ignores the part after `-` or `+`.
pub fn parse_version(text: &str) -> Option<Version> {
    let core = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = core.split('.').map(str::parse);
    let version = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    parts.next().is_none().then_some(version)
}

/// Returns the first word of a program's output that is a version. Programs usually print their name before it.
pub fn version_word(output: &str) -> Option<&str> {
    output.split_whitespace().find(|word| parse_version(word).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("0.169.0"), Some((0, 169, 0)));
        assert_eq!(version_word("codex-cli 1.2.3-alpha.4\n"), Some("1.2.3-alpha.4"));
        assert!(parse_version("0.99.0") < parse_version("0.169.0"));
        assert_eq!(
            (parse_version("1.2"), parse_version("1.2.3.4"), version_word("no version")),
            (None, None, None)
        );
    }
}
