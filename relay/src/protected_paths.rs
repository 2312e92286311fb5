//! Folders where no worker may work: the file system's root, homes, the project's `platform/`, and the folders with the
//! state of relay and Codex.
//!
//! A worker may write anything in its workspace, so files that a more trusted party opens or runs must not be there.

#![expect(
    clippy::disallowed_methods,
    reason = "accounts of the system, and folders whose path was checked for links"
)]

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Folders that a workspace is checked against.
#[derive(Debug, Clone)]
pub struct ProtectedPaths {
    /// Root of the project, with links resolved.
    root: PathBuf,
    /// Homes of the people on this machine, with links resolved.
    homes: Vec<PathBuf>,
    /// Folders of the person who runs the relay that no worker may access.
    private_folders: Vec<PathBuf>,
    /// Folder of the caches that workers share; the path may contain links.
    shared_caches: Option<PathBuf>,
}

/// Confinement of a worker to its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// A container, which sees only the mounted folder.
    Container,
    /// Codex's sandbox, which denies access to `platform/`.
    Sandbox,
    None,
}

/// Folders whose children are homes.
const HOME_PARENTS: [&str; 2] = ["/home", "/Users"];
const ROOT_HOMES: [&str; 2] = ["/root", "/var/root"];
/// Lowest user id of a person. Lower ids belong to services, whose homes may be anywhere.
const MIN_PERSON_UID: u32 = 1000;
/// User id of `nobody`. This and higher ids do not belong to people.
const NOBODY_UID: u32 = 65534;

impl ProtectedPaths {
    /// Returns the protected paths of this machine and of this process's environment.
    pub fn for_project(root: &Path) -> Self {
        let variable = |name: &str| std::env::var_os(name);
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::from_parts(root, &variable, &passwd)
    }

    fn from_parts(root: &Path, variable: &dyn Fn(&str) -> Option<OsString>, passwd: &str) -> Self {
        let absolute_variable =
            |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute_variable("HOME");
        let in_home = |relative: &str| home.as_ref().map(|home| home.join(relative));
        let state = absolute_variable("XDG_STATE_HOME").or_else(|| in_home(".local/state"));
        let codex = absolute_variable("CODEX_HOME").or_else(|| in_home(".codex"));
        let caches = in_home(".cache");
        let homes = home.clone().into_iter().chain(ROOT_HOMES.map(PathBuf::from)).chain(person_homes(passwd));
        Self {
            shared_caches: caches.map(|caches| caches.join("relay")),
            root: resolve_links(root),
            homes: homes.map(|home| resolve_links(&home)).filter(|home| home.parent().is_some()).collect(),
            private_folders: state
                .map(|state| state.join("relay"))
                .into_iter()
                .chain(codex)
                .map(|path| resolve_links(&path))
                .collect(),
        }
    }

    /// Checks `folder`, a path without links, as the workspace of one job or as the folder of all workspaces.
    ///
    /// # Errors
    /// Returns the problem with the folder, as the end of a sentence that begins with the folder's name.
    pub fn check_folder(&self, folder: &Path, confinement: Confinement) -> Result<(), String> {
        let platform = self.root.join("platform");
        if folder.parent().is_none() {
            return Err("is the root of the file system".to_owned());
        }
        let is_parent_of_homes = HOME_PARENTS.iter().any(|homes| Path::new(homes).starts_with(folder));
        if is_parent_of_homes || self.homes.iter().any(|home| home.starts_with(folder)) || is_home(folder) {
            return Err("is or contains a home folder".to_owned());
        }
        if folder.starts_with(&platform) {
            return Err("lies in platform/, which is relay's own".to_owned());
        }
        if let Some(private) =
            self.private_folders.iter().find(|path| path.starts_with(folder) || folder.starts_with(path))
        {
            return Err(format!("contains or lies in {}, which workers must not change", private.display()));
        }
        if confinement != Confinement::Sandbox && platform.starts_with(folder) {
            return Err(format!(
                "contains {}, which holds relay's settings and registry",
                platform.display()
            ));
        }
        Ok(())
    }

    /// Describes the location of `file` (a path without links) if a session or a worker can write there, as the end of
    /// a sentence.
    pub fn shared_location(&self, file: &Path, workspaces: &Path) -> Option<&'static str> {
        let temporary = ["/tmp".into(), std::env::temp_dir()];
        if self.is_in_project(file) {
            Some("the project")
        } else if file.starts_with(workspaces) {
            Some("the workspaces folder")
        } else if self.shared_caches.as_ref().is_some_and(|caches| file.starts_with(resolve_links(caches))) {
            Some("the workers' caches")
        } else if temporary.iter().any(|folder| file.starts_with(resolve_links(folder))) {
            Some("a folder for temporary files")
        } else {
            None
        }
    }

    /// Returns true if `folder` is the project root or lies in it.
    pub fn is_in_project(&self, folder: &Path) -> bool {
        folder.starts_with(&self.root)
    }
}

fn is_home(folder: &Path) -> bool {
    folder.parent().is_some_and(|parent| HOME_PARENTS.iter().any(|homes| parent == Path::new(homes)))
}

/// Returns the homes of root and of people in `/etc/passwd`.
fn person_homes(passwd: &str) -> Vec<PathBuf> {
    let home = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let uid: u32 = fields.next()?.parse().ok()?;
        let home = PathBuf::from(fields.nth(2)?);
        let is_person = uid == 0 || (MIN_PERSON_UID..NOBODY_UID).contains(&uid);
        (is_person && home.is_absolute()).then_some(home)
    };
    passwd.lines().filter_map(home).collect()
}

/// Returns the file of a program: by its path, or by looking up its name on `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Resolves the links of a path, as far as it exists; missing components are appended as written.
pub fn resolve_links(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(resolved) = existing.canonicalize() {
            return missing.iter().rev().fold(resolved, |path, name| path.join(name));
        }
        match (existing.parent(), existing.components().next_back()) {
            (Some(parent), Some(Component::Normal(name))) => {
                missing.push(name.to_owned());
                existing = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

/// Creates a folder and its missing parents. `folder` is a path without links, and must remain one.
///
/// # Errors
/// Returns an error if the folder can't be created, or if a link leads elsewhere.
pub fn create_folders(folder: &Path) -> io::Result<()> {
    if resolve_links(folder) == folder {
        fs::create_dir_all(folder)?;
    }
    check_unlinked(folder)
}

/// Checks that a path leads to a folder and contains no link.
///
/// # Errors
/// Returns an error if the path is something else or contains a link.
pub fn check_unlinked(folder: &Path) -> io::Result<()> {
    let resolved = folder.canonicalize()?;
    if resolved != folder {
        return Err(io::Error::other(format!("it leads to {} now", resolved.display())));
    }
    if resolved.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_paths(root: &str) -> ProtectedPaths {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1001:1001::/data/anna:/bin/sh\n\
                      www:x:33:33::/srv/www:/bin/false\nnobody:x:65534:65534::/srv:/bin/false\nbroken\n";
        let variable = |name: &str| match name {
            "HOME" => Some("/data/me".into()),
            "CODEX_HOME" => Some("/srv/codex".into()),
            _ => None,
        };
        ProtectedPaths::from_parts(Path::new(root), &variable, passwd)
    }

    #[test]
    fn no_worker_works_in_a_root_a_home_or_the_state_of_relay_and_codex() {
        let test_paths = test_paths("/srv/project");
        for (folder, problem) in [
            ("/", "is the root"),
            ("/data", "is or contains a home"),
            ("/data/me", "is or contains a home"),
            ("/data/anna", "is or contains a home"),
            ("/root", "is or contains a home"),
            ("/home", "is or contains a home"),
            ("/home/bert", "is or contains a home"),
            ("/Users/carl", "is or contains a home"),
            ("/srv/project/platform", "lies in platform/"),
            ("/srv/project/platform/workers", "lies in platform/"),
            ("/srv/codex/skills", "contains or lies in /srv/codex"),
            ("/data/me/.local/state/relay/x", "contains or lies in"),
        ] {
            for confinement in [Confinement::Container, Confinement::Sandbox, Confinement::None] {
                let error = test_paths.check_folder(Path::new(folder), confinement).unwrap_err();
                assert!(error.starts_with(problem), "{folder}: {error}");
            }
        }
        for folder in ["/srv/project/demo", "/data/me/src", "/home/bert/src", "/srv/www", "/srv/platform"] {
            assert_eq!(test_paths.check_folder(Path::new(folder), Confinement::None), Ok(()), "{folder}");
        }
    }

    #[test]
    fn a_folder_that_contains_platform_needs_a_sandbox_that_hides_platform() {
        let test_paths = test_paths("/opt/project");
        for folder in ["/opt/project", "/opt"] {
            assert_eq!(test_paths.check_folder(Path::new(folder), Confinement::Sandbox), Ok(()));
            for confinement in [Confinement::Container, Confinement::None] {
                let error = test_paths.check_folder(Path::new(folder), confinement).unwrap_err();
                assert!(error.contains("contains /opt/project/platform"), "{error}");
            }
        }
    }

    #[test]
    fn links_are_resolved_as_far_as_a_path_exists_and_no_folder_is_created_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(resolve_links(&root.join("link/a/b")), root.join("real/a/b"));
        assert!(create_folders(&root.join("link/a")).is_err() && !root.join("real/a").exists());
        create_folders(&root.join("real/a/b")).unwrap();
        assert!(root.join("real/a/b").is_dir());
        assert!(check_unlinked(&root.join("link")).unwrap_err().to_string().contains("leads to"));
        fs::write(root.join("file"), "").unwrap();
        assert!(check_unlinked(&root.join("file")).is_err());
    }
}
