//! Codex's own programs, which must be visible in the sandbox although Codex's home folder is hidden. These are the
//! aliases of a running Codex (`apply_patch`, its sandbox program), and Codex itself if it is installed in that folder.
//!
//! Inside a hidden folder, a profile of Codex can make only writable folders visible again, and make their entries
//! read-only. So a job can add names to the visible folders, but can't change anything that already exists there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::sandbox_profile::Profile;

/// Names of the folders in which Codex creates the aliases of each of its processes. The agent creates these
/// folders in advance, so that no job can create one that a later Codex would use.
const ALIAS_FOLDERS: [&str; 2] = ["arg0", "arg0-linux"];
/// Maximum number of entries of one folder that a profile names. If there are more, the newest ones are omitted: a job
/// may have created them to make the agent refuse later jobs.
const MAX_ENTRIES: usize = 64;

/// Folders inside hidden folders that the sandbox needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CodexPrograms {
    /// Codex's home, which contains the aliases for its model's commands.
    codex_home: Option<PathBuf>,
    /// Folder tree that contains Codex's program.
    program_folder: Option<PathBuf>,
}

impl CodexPrograms {
    /// Returns the programs of a Codex with this home and this program path.
    pub(crate) fn new(home: Option<PathBuf>, program: &Path) -> Self {
        let real_path = program.canonicalize().ok();
        // The folders of Codex's bundled programs are beside the folder `bin`.
        let tree = real_path.as_deref().and_then(Path::parent).and_then(Path::parent);
        Self {
            codex_home: home.and_then(|home| home.canonicalize().ok()),
            program_folder: tree.filter(|tree| tree.parent().is_some()).map(Path::to_owned),
        }
    }

    /// Makes Codex's program visible again in a profile that hides it.
    pub(crate) fn expose_program(&self, profile: &mut Profile) -> Result<(), String> {
        let is_hidden = |tree: &Path| profile.hidden.iter().any(|hidden| tree.starts_with(hidden));
        match self.program_folder.as_deref().filter(|tree| is_hidden(tree)) {
            Some(tree) if profile.hidden.iter().any(|hidden| Path::new(hidden) == tree) => Err(format!(
                "Codex's program lies in {}, which no job may see: install it elsewhere",
                tree.display()
            )),
            Some(tree) => expose_read_only(profile, tree),
            None => Ok(()),
        }
    }

    /// Makes the aliases of a running Codex visible again in the profile of its model's commands.
    pub(crate) fn expose_aliases(&self, profile: &mut Profile) -> Result<(), String> {
        let Some(home) = &self.codex_home else { return Ok(()) };
        let folder = home.join("tmp");
        for folder in [folder.clone()].into_iter().chain(ALIAS_FOLDERS.map(|name| folder.join(name))) {
            create_folder(&folder).map_err(|error| {
                format!("Codex's helpers can't be kept in {}: {error}: remove it", folder.display())
            })?;
        }
        expose_read_only(profile, &folder)
    }
}

/// Creates a folder, unless it exists.
fn create_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let is_folder = folder.symlink_metadata()?.is_dir();
    is_folder.then_some(()).ok_or_else(|| io::Error::other("it is not a folder"))
}

/// Makes a folder inside a hidden one visible, with all of its entries read-only.
fn expose_read_only(profile: &mut Profile, folder: &Path) -> Result<(), String> {
    let broken = |error: io::Error| format!("Codex's helpers in {} can't be read: {error}", folder.display());
    let mut entries_by_age = Vec::new();
    for entry in fs::read_dir(folder).map_err(broken)?.flatten() {
        // The target of a link is not part of this folder.
        let Ok(meta) = entry.metadata() else { continue };
        if !meta.is_symlink() {
            entries_by_age.push((meta.created().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    entries_by_age.sort();
    let entries: Vec<String> = entries_by_age
        .into_iter()
        .take(MAX_ENTRIES)
        .filter_map(|(_, path)| path.to_str().map(str::to_owned))
        .collect();
    profile.expose(&folder.to_string_lossy(), &entries);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_in_a_hidden_home_are_visible_and_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        let codex_programs = CodexPrograms::new(Some(home.clone()), Path::new("/nowhere/bin/codex"));
        let mut profile = Profile::default();
        profile.hide(&home.display().to_string());
        codex_programs.expose_program(&mut profile).unwrap();
        codex_programs.expose_aliases(&mut profile).unwrap();
        let path = |name: &str| home.join(name).display().to_string();
        assert!(profile.writable.contains(&path("tmp")), "{profile:?}");
        assert!(profile.readable.contains(&path("tmp/arg0")), "{profile:?}");
        assert!(profile.readable.contains(&path("tmp/arg0-linux")), "{profile:?}");
        fs::remove_dir(home.join("tmp/arg0")).unwrap();
        std::os::unix::fs::symlink("/tmp", home.join("tmp/arg0")).unwrap();
        let refused = codex_programs.expose_aliases(&mut profile).unwrap_err();
        assert!(refused.contains("tmp/arg0: it is not a folder: remove it"), "{refused}");
    }

    #[test]
    fn a_codex_that_is_installed_in_its_hidden_home_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        let tree = home.join("packages/1");
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/codex"), "").unwrap();
        let codex_programs = CodexPrograms::new(None, &tree.join("bin/codex"));
        let mut profile = Profile::default();
        codex_programs.expose_program(&mut profile).unwrap();
        assert_eq!(profile, Profile::default());
        profile.hide(&home.display().to_string());
        codex_programs.expose_program(&mut profile).unwrap();
        assert!(profile.writable.contains(&tree.display().to_string()), "{profile:?}");
        assert!(profile.readable.contains(&tree.join("bin").display().to_string()), "{profile:?}");
        let mut profile = Profile::default();
        profile.hide(&tree.display().to_string());
        assert!(codex_programs.expose_program(&mut profile).unwrap_err().contains("install it elsewhere"));
    }
}
