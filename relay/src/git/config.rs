//! Git settings that decide about the content of files and about ignored files. All other settings of the user and of
//! the user's repository have no effect.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::GitError;
use super::command::Git;

/// Settings that relay adopts, because they choose no program to run.
const ADOPTED_KEYS: [&str; 10] = [
    "core.autocrlf",
    "core.checkstat",
    "core.eol",
    "core.filemode",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.protecthfs",
    "core.protectntfs",
    "core.symlinks",
    "core.trustctime",
];
/// Maximum length of an adopted value, in bytes. The longest values are paths.
const MAX_VALUE_LENGTH: usize = 4096;

/// The settings of a repository that relay uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RepositorySettings {
    /// True if the repository has no work tree.
    pub(super) is_bare: bool,
    /// True if objects may be missing, because git fetches them when it needs them.
    pub(super) is_partial: bool,
    /// Hash function of the repository's ids: `sha1` or `sha256`.
    pub(super) object_format: String,
    /// True if each work tree of the repository has settings of its own.
    has_worktree_settings: bool,
    /// Keys and values of the adopted settings.
    adopted_settings: Vec<(String, String)>,
}

impl RepositorySettings {
    /// Reads the settings of the repository with these folders.
    pub(super) fn read(git_dir: &Path, common_dir: &Path) -> Result<Self, GitError> {
        let mut settings = Self { object_format: "sha1".to_owned(), ..Self::default() };
        settings.add_settings(&list_file(&common_dir.join("config"))?);
        let worktree_config = git_dir.join("config.worktree");
        if settings.has_worktree_settings && worktree_config.exists() {
            settings.add_settings(&list_file(&worktree_config)?);
        }
        Ok(settings)
    }

    fn add_settings(&mut self, list: &[(String, String)]) {
        for (key, value) in list {
            match key.as_str() {
                "core.bare" => self.is_bare = is_true(value),
                "extensions.objectformat" => self.object_format.clone_from(value),
                "extensions.worktreeconfig" => self.has_worktree_settings = is_true(value),
                "extensions.partialclone" => self.is_partial = true,
                "core.excludesfile" => self.adopt(key, value),
                key if key.starts_with("remote.") && key.ends_with(".promisor") => {
                    self.is_partial |= is_true(value);
                }
                key if ADOPTED_KEYS.contains(&key) => self.adopt(key, value),
                _ => {}
            }
        }
    }

    fn adopt(&mut self, key: &str, value: &str) {
        if value.len() <= MAX_VALUE_LENGTH {
            self.adopted_settings.push((key.to_owned(), value.to_owned()));
        }
    }

    /// Returns the configuration file for a repository of relay's own that reads the same files. The settings of the
    /// repository override those of `person`, who runs relay.
    pub(super) fn to_config(&self, person: &PersonSettings) -> String {
        let sha1 = self.object_format == "sha1";
        let mut text = format!("[core]\n\trepositoryformatversion = {}\n\tbare = false\n", u8::from(!sha1));
        for (key, value) in person.adopted_settings.iter().chain(&self.adopted_settings) {
            let value = match key.as_str() {
                "core.excludesfile" => match person.expand_path(value) {
                    Some(path) => path,
                    None => continue,
                },
                _ => value.clone(),
            };
            let name = key.trim_start_matches("core.");
            let _ = writeln!(text, "\t{name} = {}", quote(&value));
        }
        if !sha1 {
            let _ = writeln!(text, "[extensions]\n\tobjectformat = {}", quote(&self.object_format));
        }
        text
    }
}

/// Settings of the person who runs relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PersonSettings {
    home: Option<PathBuf>,
    adopted_settings: Vec<(String, String)>,
    /// `user.name` and `user.email`.
    identity: (Option<String>, Option<String>),
}

impl PersonSettings {
    /// Reads the settings from the person's own files, which no worker can write.
    pub(super) fn read() -> Result<Self, GitError> {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let xdg = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|xdg| xdg.is_absolute());
        let mut settings = Self { home: home.clone(), ..Self::default() };
        // The default of git, which `git config --list` does not show.
        let default = xdg.or_else(|| Some(home?.join(".config"))).map(|folder| folder.join("git/ignore"));
        if let Some(path) = default.as_ref().and_then(|path| path.to_str()) {
            settings.adopted_settings.push(("core.excludesfile".to_owned(), path.to_owned()));
        }
        let listed =
            Git::new(Path::new("/nonexistent"), "config").with_person_config().args(["--null", "--list"]);
        for (key, value) in parse_list(&listed.output()?) {
            match key.as_str() {
                "user.name" => settings.identity.0 = Some(value),
                "user.email" => settings.identity.1 = Some(value),
                "core.excludesfile" => settings.adopted_settings.push((key, value)),
                key if ADOPTED_KEYS.contains(&key) => settings.adopted_settings.push((key.to_owned(), value)),
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Returns the person's name and email address, if both are set.
    pub(super) fn identity(&self) -> Option<(&str, &str)> {
        Some((self.identity.0.as_deref()?, self.identity.1.as_deref()?))
    }

    /// Returns the absolute path that the value of a setting names; `None` if it names none.
    fn expand_path(&self, path: &str) -> Option<String> {
        if let Some(rest) = path.strip_prefix("~/") {
            return self.home.as_ref()?.join(rest).to_str().map(str::to_owned);
        }
        Path::new(path).is_absolute().then(|| path.to_owned())
    }
}

fn list_file(path: &Path) -> Result<Vec<(String, String)>, GitError> {
    let list = Git::new(Path::new("/nonexistent"), "config");
    let list = list.arg("--file").arg(path).args(["--no-includes", "--null", "--list"]);
    Ok(parse_list(&list.output()?))
}

/// Parses the output of `git config --null --list`: `KEY\nVALUE\0…`. A key without a value means true.
fn parse_list(output: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(output);
    let entries = text.split('\0').filter(|entry| !entry.is_empty());
    entries
        .map(|entry| entry.split_once('\n').unwrap_or((entry, "true")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn is_true(value: &str) -> bool {
    ["true", "yes", "on", "1"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Quotes a value for a configuration file.
pub(super) fn quote(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
