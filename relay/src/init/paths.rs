//! Paths of the files that init changes, with links resolved.

use std::env::VarError;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Folders in which the host agents keep settings for all projects of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentHomes {
    /// Codex's folder.
    pub codex: Option<PathBuf>,
    /// Claude Code's folder.
    pub claude: Option<PathBuf>,
}

impl AgentHomes {
    /// Returns the folders named in the environment, else the default folders in HOME. Relative paths are resolved
    /// against `cwd`.
    pub fn from_env(variable: &dyn Fn(&str) -> Result<String, VarError>, cwd: &Path) -> Self {
        let set = |name| variable(name).ok().filter(|value| !value.is_empty()).map(|value| cwd.join(value));
        let below_home = |dir| set("HOME").map(|home| home.join(dir));
        Self {
            codex: set("CODEX_HOME").or_else(|| below_home(".codex")),
            claude: set("CLAUDE_CONFIG_DIR").or_else(|| below_home(".claude")),
        }
    }
}

/// Follows the links to a file that need not exist yet.
///
/// # Errors
/// The reason to leave the file unchanged. With `required_folder`, the file must be in that folder.
pub(super) fn resolve_path(path: &Path, required_folder: Option<&Path>) -> Result<PathBuf, &'static str> {
    let real = follow_links(path)?;
    if required_folder.is_some_and(|dir| !real.starts_with(dir)) {
        return Err("a link leads out of the project");
    }
    match fs::symlink_metadata(&real) {
        Ok(meta) if !meta.is_file() => Err("it is not a file"),
        _ => Ok(real),
    }
}

fn follow_links(path: &Path) -> Result<PathBuf, &'static str> {
    match path.canonicalize() {
        Ok(real) => return Ok(real),
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
    fn links_are_followed_inside_and_never_out() {
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
        let real = |path: &str| resolve_path(&root.join(path), Some(&root));
        assert_eq!(real("AGENTS.md"), Ok(root.join("docs/agents.md")));
        assert_eq!(real("a/new/file"), Ok(root.join("a/new/file")));
        for out in ["CLAUDE.md", ".codex/rules/relay.rules", ".codex/outside"] {
            assert_eq!(real(out), Err("a link leads out of the project"), "{out}");
        }
        assert_eq!(real("x"), Err("a link leads to nothing"));
        assert_eq!(real("docs"), Err("it is not a file"));
        assert_eq!(real("docs/agents.md/x"), Err("its folder can't be entered"));
        assert_eq!(
            super::resolve_path(&root.join("CLAUDE.md"), None),
            Ok(root.join("../outside").canonicalize().unwrap())
        );
    }

    #[test]
    fn homes_are_those_of_the_environment() {
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
        let usual = AgentHomes { codex: Some("/h/.codex".into()), claude: Some("/h/.claude".into()) };
        assert_eq!(homes(&[("HOME", "/h"), ("CODEX_HOME", "")]), usual);
        let own = AgentHomes { codex: Some("/cwd/c".into()), claude: Some("/d".into()) };
        assert_eq!(homes(&[("HOME", "/h"), ("CODEX_HOME", "c"), ("CLAUDE_CONFIG_DIR", "/d")]), own);
    }
}
