//! Paths of the files that init changes, with links resolved.

use std::env::VarError;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Folders in which the host agents keep settings for all projects of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentHomes {
    /// Codex's home.
    pub codex: Option<PathBuf>,
    /// Claude Code's settings folder.
    pub claude: Option<PathBuf>,
}

impl AgentHomes {
    /// Returns the folders that the environment names, else the default folders in HOME. Relative paths are resolved
    /// against `cwd`.
    pub fn from_env(variable: &dyn Fn(&str) -> Result<String, VarError>, cwd: &Path) -> Self {
        let variable_path =
            |name| variable(name).ok().filter(|value| !value.is_empty()).map(|value| cwd.join(value));
        let in_home = |dir| variable_path("HOME").map(|home| home.join(dir));
        Self {
            codex: variable_path("CODEX_HOME").or_else(|| in_home(".codex")),
            claude: variable_path("CLAUDE_CONFIG_DIR").or_else(|| in_home(".claude")),
        }
    }
}

/// Follows the links to a file that need not exist yet.
///
/// # Errors
/// Returns the reason to leave the file unchanged. With `required_folder`, the file must be in that folder.
pub(super) fn resolve_path(path: &Path, required_folder: Option<&Path>) -> Result<PathBuf, &'static str> {
    let real_path = follow_links(path)?;
    if required_folder.is_some_and(|dir| !real_path.starts_with(dir)) {
        return Err("a link leads out of the project");
    }
    match fs::symlink_metadata(&real_path) {
        Ok(meta) if !meta.is_file() => Err("it is not a file"),
        _ => Ok(real_path),
    }
}

fn follow_links(path: &Path) -> Result<PathBuf, &'static str> {
    match path.canonicalize() {
        Ok(real_path) => return Ok(real_path),
        Err(e) if e.kind() != ErrorKind::NotFound => return Err("its folder can't be entered"),
        Err(_) => {}
    }
    if path.is_symlink() {
        return Err("a link leads to nothing");
    }
    let (parent, name) = path.parent().zip(path.file_name()).ok_or("it has no name")?;
    Ok(follow_links(parent)?.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_only_inside_of_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("project");
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::write(root.join("docs/agents.md"), "").unwrap();
        fs::write(root.join("../outside"), "").unwrap();
        for (link, to) in
            [("AGENTS.md", "docs/agents.md"), (".codex", ".."), ("CLAUDE.md", "../outside"), ("x", "missing")]
        {
            symlink(to, root.join(link)).unwrap();
        }
        let real_path = |path: &str| resolve_path(&root.join(path), Some(&root));
        assert_eq!(real_path("AGENTS.md"), Ok(root.join("docs/agents.md")));
        assert_eq!(real_path("a/new/file"), Ok(root.join("a/new/file")));
        for outside in ["CLAUDE.md", ".codex/rules/relay.rules", ".codex/outside"] {
            assert_eq!(real_path(outside), Err("a link leads out of the project"), "{outside}");
        }
        assert_eq!(real_path("x"), Err("a link leads to nothing"));
        assert_eq!(real_path("docs"), Err("it is not a file"));
        assert_eq!(real_path("docs/agents.md/x"), Err("its folder can't be entered"));
        assert_eq!(
            super::resolve_path(&root.join("CLAUDE.md"), None),
            Ok(root.join("../outside").canonicalize().unwrap())
        );
    }

    #[test]
    fn the_environment_names_the_homes_of_the_host_agents() {
        let homes = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> =
                set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let variable = move |name: &str| {
                set.iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.clone())
                    .ok_or(VarError::NotPresent)
            };
            AgentHomes::from_env(&variable, Path::new("/cwd"))
        };
        assert_eq!(homes(&[]), AgentHomes::default());
        let defaults = AgentHomes { codex: Some("/h/.codex".into()), claude: Some("/h/.claude".into()) };
        assert_eq!(homes(&[("HOME", "/h"), ("CODEX_HOME", "")]), defaults);
        let configured = AgentHomes { codex: Some("/cwd/c".into()), claude: Some("/d".into()) };
        assert_eq!(homes(&[("HOME", "/h"), ("CODEX_HOME", "c"), ("CLAUDE_CONFIG_DIR", "/d")]), configured);
    }
}
