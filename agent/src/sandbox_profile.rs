//! Permission profile of a sandbox: the paths that its commands can write, can only read, or can't see. Pure.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Folders that Codex keeps read-only inside writable folders unless a profile lists them: programs outside of the
/// sandbox take settings from there.
const PROTECTED_FOLDERS: [&str; 3] = [".codex", ".agents", ".aws"];

/// Paths by permission. All other paths can only be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Paths that can be written.
    pub(crate) writable: Vec<String>,
    /// Paths that can neither be read nor written, even inside a writable folder.
    pub(crate) hidden: Vec<String>,
    /// Paths inside a writable folder that can only be read.
    pub(crate) readable: Vec<String>,
}

impl Profile {
    /// Makes a folder writable; with `include_protected`, also the folders in it that Codex would keep read-only.
    pub(crate) fn allow_write(&mut self, path: &str, include_protected: bool) {
        self.add_writable(path.to_owned());
        self.add_writable(format!("{}/.git", path.trim_end_matches('/')));
        if include_protected {
            for folder in PROTECTED_FOLDERS {
                self.add_writable(format!("{}/{folder}", path.trim_end_matches('/')));
            }
        }
    }

    fn add_writable(&mut self, path: String) {
        if !self.writable.contains(&path) {
            self.writable.push(path);
        }
    }

    /// Hides a path. The folders between it and a writable folder are listed too: a listed path can't be renamed, so no
    /// job can move the hidden path away.
    pub(crate) fn hide(&mut self, path: &str) {
        if self.hidden.iter().any(|hidden| hidden == path) {
            return;
        }
        self.hidden.push(path.to_owned());
        self.list_ancestors(path);
    }

    /// Makes a folder inside a hidden one visible, and the paths `entries` in it read-only. The folder becomes
    /// writable, because inside a hidden folder Codex can make only writable paths visible.
    pub(crate) fn expose(&mut self, folder: &str, entries: &[String]) {
        self.allow_write(folder, true);
        for entry in entries {
            self.protect(entry);
        }
    }

    /// Keeps a path read-only if it is in a writable folder.
    pub(crate) fn protect(&mut self, path: &str) {
        if self.writable.iter().any(|root| Path::new(path).starts_with(root)) {
            if !self.readable.iter().any(|readable| readable == path) {
                self.readable.push(path.to_owned());
            }
            self.list_ancestors(path);
        }
    }

    /// Lists the folders between a path and the outermost writable folder around it, so that none of them can be
    /// renamed and replaced.
    fn list_ancestors(&mut self, path: &str) {
        let ancestors = Path::new(path).ancestors().skip(1);
        let is_root = |folder: &Path| self.writable.iter().any(|root| Path::new(root) == folder);
        let mut inner: Vec<&str> = ancestors.clone().filter_map(Path::to_str).collect();
        let Some(outermost) = ancestors.filter(|folder| is_root(folder)).last() else { return };
        inner.retain(|folder| Path::new(folder) != outermost && Path::new(folder).starts_with(outermost));
        for folder in inner {
            if !self.readable.iter().any(|readable| Path::new(folder).starts_with(readable)) {
                self.allow_write(folder, false);
            }
        }
    }

    /// Returns the value of Codex's `permissions.NAME.filesystem`.
    pub(crate) fn filesystem_toml(&self) -> String {
        let entries_with = |paths: &[String], access| {
            paths.iter().map(move |path| (path.clone(), access)).collect::<Vec<(String, &str)>>()
        };
        // Each path gets one entry, with its strictest permission.
        let is_only_writable = |path: &&String| !self.hidden.contains(path) && !self.readable.contains(path);
        let writable: Vec<String> = self.writable.iter().filter(is_only_writable).cloned().collect();
        let readable = self.readable.iter().filter(|path| !self.hidden.contains(path));
        let readable: Vec<String> = readable.cloned().collect();
        let mut entries = vec![(":root".to_owned(), "read")];
        entries.extend(entries_with(&writable, "write"));
        entries.extend(entries_with(&readable, "read"));
        entries.extend(entries_with(&self.hidden, "none"));
        let texts = entries.iter().map(|(path, access)| format!("{}=\"{access}\"", quote_toml(path)));
        format!("{{{}}}", texts.collect::<Vec<_>>().join(","))
    }
}

/// Quotes a text for TOML: a JSON string is also a valid TOML string.
pub(crate) fn quote_toml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_entry_with_its_strictest_permission() {
        let mut profile = Profile::default();
        profile.allow_write("/w", false);
        profile.protect("/w/codex");
        profile.protect("/w/codex");
        profile.protect("/elsewhere");
        profile.hide("/w/codex/auth.json");
        let expected = r#"{":root"="read","/w"="write","/w/.git"="write","/w/codex"="read","/w/codex/auth.json"="none"}"#;
        similar_asserts::assert_eq!(profile.filesystem_toml(), expected);
    }

    #[test]
    fn no_folder_up_to_the_outermost_writable_one_can_be_renamed() {
        let mut profile = Profile::default();
        profile.allow_write("/tmp/a/b/ws", false);
        profile.allow_write("/tmp", false);
        profile.protect("/tmp/a/b/ws/.git/config");
        for folder in ["/tmp/a", "/tmp/a/b", "/tmp/a/b/ws/.git"] {
            assert!(
                profile.writable.iter().any(|path| path == folder),
                "{folder}: {}",
                profile.filesystem_toml()
            );
        }
    }

    #[test]
    fn hidden_paths_are_listed_last_and_after_the_folders_above_them() {
        let mut profile = Profile::default();
        profile.allow_write("/w s", false);
        profile.allow_write("/tmp", true);
        profile.hide("/w s/a/platform");
        profile.hide("/w s/a/platform");
        profile.hide("/home/x/auth.json");
        let expected = r#"{":root"="read","/w s"="write","/w s/.git"="write","/tmp"="write","/tmp/.git"="write","/tmp/.codex"="write","/tmp/.agents"="write","/tmp/.aws"="write","/w s/a"="write","/w s/a/.git"="write","/w s/a/platform"="none","/home/x/auth.json"="none"}"#;
        similar_asserts::assert_eq!(profile.filesystem_toml(), expected);
    }
}
