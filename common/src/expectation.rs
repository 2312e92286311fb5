//! Expectations (`--expect`): what a job must leave behind to complete. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text_format::one_line;

/// Maximum number of expectations of a job.
pub const MAX_EXPECTATIONS: usize = 20;
/// Maximum length of the path of an expected file, in bytes.
const MAX_PATH: usize = 1024;

/// Something that a job must leave behind; otherwise the job fails. Written as `commit`, `change` or `file:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Expectation {
    /// At least one commit on top of the job's base.
    Commit,
    /// At least one file that differs from the job's base, committed or not.
    Change,
    /// A regular file at this path, which is relative to the working folder and contains no `..`.
    File(String),
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit => f.write_str("commit"),
            Self::Change => f.write_str("change"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "commit" => Ok(Self::Commit),
            "change" => Ok(Self::Change),
            _ => match text.strip_prefix("file:") {
                Some(path) => check_path(path).map(|()| Self::File(path.to_owned())),
                None => Err(format!(
                    "unknown expectation '{}': use commit, change or file:PATH",
                    one_line(text, 80)
                )),
            },
        }
    }
}

impl TryFrom<String> for Expectation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Expectation> for String {
    fn from(expectation: Expectation) -> Self {
        expectation.to_string()
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("file:{}: the path {why}", one_line(path, 200)));
    if path.is_empty() || path.len() > MAX_PATH {
        return refuse(&format!("needs 1 to {MAX_PATH} bytes"));
    }
    if path.chars().any(char::is_control) {
        return refuse("contains a control character");
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return refuse("must be relative to the working folder, without '..'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_parsed_from_its_text_and_its_json() {
        for text in ["commit", "change", "file:dist/app.js", "file:./a b", "file:..a/b..", "file:commit"] {
            let expectation: Expectation = text.parse().unwrap();
            assert_eq!(expectation.to_string(), text);
            let json = serde_json::to_string(&expectation).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Expectation>(&json).unwrap(), expectation);
        }
    }

    #[test]
    fn the_error_for_an_invalid_expectation_names_the_mistake() {
        for (bad, part) in [
            ("", "use commit, change or file:PATH"),
            ("commits", "'commits'"),
            ("file", "file:PATH"),
            ("file:", "1 to"),
            ("file:/etc/passwd", "relative to the working folder"),
            ("file:a/../../b", "without '..'"),
            ("file:a\nb", "control character"),
        ] {
            let refused = bad.parse::<Expectation>().unwrap_err();
            assert!(refused.contains(part) && refused.lines().count() == 1, "{bad:?}: {refused}");
            assert!(serde_json::from_str::<Expectation>(&format!("{bad:?}")).is_err());
        }
    }
}
