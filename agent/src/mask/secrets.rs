//! Secret values of a job.
//!
//! Some values are not masked, because that would garble the output without hiding a secret: values shorter than
//! [`MIN_LENGTH`] bytes, plain words (`production`) unless the variable's name suggests a secret, values of common
//! variables such as `PATH`, and values that the caller excludes, such as the workspace's path.

use std::collections::BTreeSet;

use super::secret_parts::{address_secrets, is_plain_word, secret_parts};
use crate::environment::{Variables, is_never_secret, looks_secret};

/// Minimum length of a value that is masked, in bytes. Shorter values occur in any text.
pub(super) const MIN_LENGTH: usize = 6;
/// Maximum number of parts of one value that are secrets of their own: enough for the lines of twenty keys.
const MAX_PARTS: usize = 1024;
/// Maximum number of parts of all values together.
const MAX_TOTAL_PARTS: usize = 4096;
/// Maximum length of a name in a marker, in bytes.
const MAX_NAME: usize = 40;

/// A value to be masked. Whole values sort before parts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Secret {
    is_part: bool,
    /// Value that is masked.
    pub(super) value: String,
    /// Replacement text.
    pub(super) marker: String,
}

/// Set of the secrets of a job.
#[derive(Default)]
pub(crate) struct Secrets {
    pub(super) values: BTreeSet<Secret>,
    excluded_values: Vec<String>,
    /// Number of the parts of all values together.
    part_count: usize,
}

impl Secrets {
    /// Creates an empty set. Values in `excluded_values` are not added.
    pub(crate) fn new(excluded_values: &[&str]) -> Self {
        let excluded_values = excluded_values.iter().map(|value| value.trim_end_matches('/').to_owned());
        Self { excluded_values: excluded_values.collect(), ..Self::default() }
    }

    pub(crate) fn add(&mut self, name: &str, value: &str) {
        let trimmed = value.trim_matches(['\r', '\n']);
        let is_setting = is_plain_word(trimmed) && !looks_secret(name);
        if is_setting
            || is_never_secret(name)
            || self.excluded_values.iter().any(|other| other == trimmed.trim_end_matches('/'))
        {
            return;
        }
        self.insert(name, trimmed, false);
        self.add_parts(name, secret_parts(trimmed).into_iter().filter(|part| part != trimmed));
    }

    fn add_parts(&mut self, name: &str, parts: impl Iterator<Item = String>) {
        let remaining = MAX_TOTAL_PARTS.saturating_sub(self.part_count).min(MAX_PARTS);
        for part in parts.take(remaining) {
            self.part_count += 1;
            self.insert(name, &part, true);
        }
    }

    fn insert(&mut self, name: &str, value: &str, is_part: bool) {
        let is_excluded = self.excluded_values.iter().any(|other| other == value.trim_end_matches('/'));
        if value.len() >= MIN_LENGTH && !is_excluded {
            self.values.insert(Secret { is_part, value: value.to_owned(), marker: marker(name) });
        }
    }

    pub(crate) fn add_every_variable(&mut self, env: &Variables) {
        for (name, value) in env {
            self.add(name, value);
        }
    }

    /// Adds the variables whose name suggests a secret, and the secrets in addresses.
    pub(crate) fn add_secret_variables(&mut self, env: &Variables) {
        for (name, value) in env {
            if looks_secret(name) {
                self.add(name, value);
            } else if !is_never_secret(name) {
                self.add_parts(name, address_secrets(value).into_iter().filter(|part| !is_plain_word(part)));
            }
        }
    }
}

/// Returns `***NAME***` without characters that JSON or a shell would have to quote.
fn marker(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    format!("***{}***", name.chars().take(MAX_NAME).map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut secrets = Secrets::new(&["/home/worker", "/work/space/"]);
        for (name, value) in pairs {
            secrets.add(name, value);
        }
        let values: BTreeSet<_> = secrets.values.into_iter().map(|secret| secret.value).collect();
        values.into_iter().collect()
    }

    #[test]
    fn short_values_plain_words_and_known_paths_are_no_secrets() {
        let settings = [
            ("A", "true"),
            ("B", "12345"),
            ("C", "production"),
            ("D", "DEBUG"),
            ("E", "/home/worker"),
            ("F", "/work/space"),
            ("G", ""),
            ("PATH", "/usr/bin:/opt/bin"),
        ];
        assert_eq!(values(&settings), [""; 0]);
        let secrets = [("A", "123456"), ("MY_PASSWORD", "production"), ("B", "abcdefG")];
        assert_eq!(values(&secrets), ["123456", "abcdefG", "production"]);
    }

    #[test]
    fn lines_of_a_value_and_the_password_of_an_address_are_masked_by_themselves() {
        assert_eq!(
            values(&[("K", "-----BEGIN\r\nabcdefghij\nxy\n")]),
            ["-----BEGIN", "-----BEGIN\r\nabcdefghij\nxy", "abcdefghij"]
        );
        assert_eq!(
            values(&[("U", "postgres://me:p4ss:word@host/db")]),
            ["p4ss:word", "postgres://me:p4ss:word@host/db"]
        );
        let mut secrets = Secrets::new(&[]);
        let env = [
            ("HTTP_PROXY", "http://u:hunter22@proxy:1"),
            ("LANG", "C.UTF-8.long"),
            ("MY_TOKEN", "abc.def.ghi"),
        ];
        secrets.add_secret_variables(&env.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let values: Vec<_> = secrets.values.iter().map(|secret| secret.value.as_str()).collect();
        assert_eq!(values, ["abc.def.ghi", "hunter22"]);
    }

    #[test]
    fn a_marker_needs_no_quoting_whatever_the_name() {
        assert_eq!(marker("A\"B\\\n€"), "***A_B___***");
    }
}
