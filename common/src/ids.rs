//! Job names and job ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of a job name, in bytes. File names built from it stay far below the usual limit of 255.
pub const MAX_NAME: usize = 41;

/// Name of a job: `[a-z0-9][a-z0-9_-]{0,40}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);

/// Error for a text that is not a job name or job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The name does not match the pattern.
    #[error(
        "job name '{0}' is not allowed: use 1 to 41 of a-z, 0-9, '_' and '-', beginning with a letter or digit"
    )]
    InvalidName(String),
    /// The text is not a name and a number, joined with `#` or `.`.
    #[error("'{0}' is not a job id: write NAME#N or NAME.N, for example abe-smoke#1")]
    InvalidId(String),
}

impl JobName {
    /// Derives a job name from a folder's name: in lower case, with `-` for forbidden characters; `job` if none is
    /// left.
    pub fn from_folder(folder: &str) -> Self {
        let cleaned: String = folder
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
            .take(MAX_NAME)
            .collect();
        let trimmed = cleaned.trim_start_matches(['-', '_']).trim_end_matches('-');
        Self(if trimmed.is_empty() { "job".to_owned() } else { trimmed.to_owned() })
    }

    /// Returns the name of a group of jobs whose first job is `job`: `demo-7` for `demo#7`. A long name is shortened.
    pub fn from_job(job: &JobId) -> Self {
        let number = format!("-{}", job.number);
        let name = job.name.0.get(..MAX_NAME - number.len()).unwrap_or(&job.name.0);
        Self(format!("{name}{number}"))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let has_valid_start =
            text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let has_valid_characters =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if has_valid_start && has_valid_characters && text.len() <= MAX_NAME {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::InvalidName(crate::text_format::one_line(text, 60)))
        }
    }
}

impl TryFrom<String> for JobName {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<JobName> for String {
    fn from(name: JobName) -> Self {
        name.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Id of a job: a name and a number. The numbers of a name count from 1 and are never reused.
///
/// Displayed as `NAME#N`. File names contain it as `NAME.N`, and both spellings are parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId {
    name: JobName,
    number: u32,
}

impl JobId {
    /// Creates the id `NAME#number`.
    pub fn new(name: JobName, number: u32) -> Self {
        Self { name, number }
    }

    /// Returns the name, which other jobs can share.
    pub fn name(&self) -> &JobName {
        &self.name
    }

    /// Returns the number of the job among those with the same name.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the stem of the job's files in the registry: `NAME.N`.
    pub fn file_stem(&self) -> String {
        format!("{}.{}", self.name, self.number)
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::InvalidId(crate::text_format::one_line(text, 60));
        let (name, number) = text.rsplit_once(['#', '.']).ok_or_else(bad)?;
        // `+1` and `01` would parse as numbers, but are refused: each job id has only one spelling.
        let is_canonical = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_canonical).ok_or_else(bad)?;
        Ok(Self { name: name.parse()?, number })
    }
}

impl TryFrom<String> for JobId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}#{}", self.name, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_parsed_in_both_spellings() {
        let id: JobId = "abe-smoke#12".parse().unwrap();
        assert_eq!(id, "abe-smoke.12".parse().unwrap());
        assert_eq!((id.to_string(), id.file_stem()), ("abe-smoke#12".to_owned(), "abe-smoke.12".to_owned()));
    }

    #[test]
    fn a_group_is_named_after_its_first_job() {
        for (job, group) in [
            ("demo#7", "demo-7"),
            (&format!("{}#4294967295", "a".repeat(41)), &format!("{}-4294967295", "a".repeat(30))),
        ] {
            let name = JobName::from_job(&job.parse().unwrap());
            assert_eq!(name.as_str(), group);
            assert!(name.as_str().parse::<JobName>().is_ok());
        }
    }

    #[test]
    fn invalid_names_and_further_spellings_of_an_id_are_refused() {
        let long = "a".repeat(42);
        for name in ["", "../x", "a/b", "a\0b", "-a", "_a", "A", "ä", "a b", "а", &long] {
            assert!(name.parse::<JobName>().is_err(), "{name:?}");
        }
        for id in ["a", "a#", "a#0", "a#01", "a#+1", "a#-1", "a#4294967296", "#1", ".1", "../a.1"] {
            assert!(id.parse::<JobId>().is_err(), "{id:?}");
        }
    }

    #[test]
    fn every_folder_gives_an_allowed_name() {
        for (folder, name) in [
            ("Abe Smoke", "abe-smoke"),
            ("__x", "x"),
            ("ÄÖ", "job"),
            ("", "job"),
            ("a.b", "a-b"),
            ("---", "job"),
        ] {
            assert_eq!(JobName::from_folder(folder).as_str(), name);
        }
        assert!(JobName::from_folder(&"x".repeat(300)).as_str().parse::<JobName>().is_ok());
    }
}
