//! Lines that init adds to `.gitignore`.

use std::path::Path;

use crate::config::Config;
use crate::registry::Registry;

/// Returns the folders of the project at `root` that git should ignore, relative to the root: the registry, and the
/// workspaces folder, which contains separate work trees.
pub(super) fn ignored_folders(root: &Path) -> Vec<String> {
    // Unreadable settings are reported by the commands that need them.
    let workspaces = Config::load(root).ok().map(|config| config.platform.workspaces_folder);
    let folders = [Some(Registry::for_project(root).dir().to_owned()), workspaces];
    let in_project =
        folders.into_iter().flatten().filter_map(|dir| dir.strip_prefix(root).ok().map(Path::to_owned));
    let plain = in_project.filter_map(|dir| dir.to_str().map(str::to_owned)).filter(|dir| is_listable(dir));
    plain.collect()
}

/// Returns true for a folder that can be listed: neither the root itself nor a name that would need quoting.
fn is_listable(dir: &str) -> bool {
    let is_simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !dir.is_empty()
        && dir.chars().all(is_simple)
        && dir.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// Returns the lines for the folders that a text does not ignore yet.
pub(super) fn missing_lines(folders: &[String], text: &str) -> String {
    let is_ignored = |folder: &String| {
        text.lines().any(|line| {
            let line = line.trim().trim_start_matches('/').trim_end_matches("/*").trim_end_matches('/');
            !line.is_empty()
                && (line == folder || folder.strip_prefix(line).is_some_and(|rest| rest.starts_with('/')))
        })
    };
    let lines =
        folders.iter().filter(|folder| !is_ignored(folder)).flat_map(|folder| ["/", folder.as_str(), "/\n"]);
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_and_the_workspaces_are_ignored_where_they_lie_in_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let folders_with_settings = |settings: &str| {
            std::fs::create_dir_all(dir.path().join("platform")).unwrap();
            std::fs::write(dir.path().join("platform/relay.toml"), settings).unwrap();
            ignored_folders(dir.path())
        };
        assert_eq!(ignored_folders(dir.path()), ["platform/workers", "workspace-projects"]);
        assert_eq!(
            folders_with_settings("[platform]\nworkspaces = \"work/trees\"\n"),
            ["platform/workers", "work/trees"]
        );
        for unlisted in [".", "..", "/srv/work", "a*b", "a/../.."] {
            assert_eq!(
                folders_with_settings(&format!("[platform]\nworkspaces = \"{unlisted}\"\n")),
                ["platform/workers"],
                "{unlisted}"
            );
        }
        assert_eq!(folders_with_settings("[broken"), ["platform/workers"]);
    }

    #[test]
    fn folders_that_are_already_ignored_get_no_line() {
        let folders = ["platform/workers".to_owned(), "workspace-projects".to_owned()];
        assert_eq!(missing_lines(&folders, "target/\n"), "/platform/workers/\n/workspace-projects/\n");
        for line in ["platform/workers", "/platform/workers/", "platform/", "platform/*", "  /platform "] {
            assert_eq!(missing_lines(&folders, line), "/workspace-projects/\n", "{line}");
        }
        for line in ["# platform/workers", "!platform/workers", "plat", "/", ""] {
            assert_eq!(missing_lines(&folders[..1], line), "/platform/workers/\n", "{line}");
        }
    }
}
