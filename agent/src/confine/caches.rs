//! Caches of package managers that only the workers use. If they used the user's own caches, a worker could plant files
//! there that the user's later builds would use.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::environment::Variables;
use crate::sandbox_check::open_without_links;

/// Variables that name the caches of tools, each with the name of a folder. Most tools use `XDG_CACHE_HOME`.
const CACHE_VARIABLES: [(&str, &str); 8] = [
    ("XDG_CACHE_HOME", "xdg"),
    ("npm_config_cache", "npm"),
    ("YARN_CACHE_FOLDER", "yarn"),
    ("PIP_CACHE_DIR", "pip"),
    ("CARGO_HOME", "cargo"),
    ("GOMODCACHE", "go"),
    ("GRADLE_USER_HOME", "gradle"),
    ("BUN_INSTALL_CACHE_DIR", "bun"),
];
/// Names of the settings that cargo reads from its home folder, which also contains its caches. Workers get no registry
/// credentials.
const CARGO_SETTINGS: [&str; 2] = ["config.toml", "config"];
/// Name of the folder for temporary files, in the folder of the launcher (`codex sandbox`).
const TEMP_DIR: &str = "temporary";
/// Flags that open an existing folder and follow no link.
const FOLDER_FLAGS: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Maximum number of unusable folders of one name that are kept under new names.
const MAX_RENAMED_FOLDERS: u32 = 10_000;

/// The caches of one agent's workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caches {
    folder: PathBuf,
    launcher: PathBuf,
}

impl Caches {
    /// Opens the caches of the agent with the state directory `state`, and creates missing ones. They are in the cache
    /// folder that `agent_env` names.
    pub(crate) fn open(agent_env: &Variables, state: &Path) -> io::Result<Self> {
        let home = agent_env.get("HOME").map(Path::new);
        let base = agent_env.get("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".cache")));
        let base = base.filter(|base| base.is_absolute());
        let base = base.ok_or_else(|| io::Error::other("HOME is not set"))?;
        let name = format!("{:08x}", crc32c::crc32c(state.as_os_str().as_encoded_bytes()));
        let folder = base.join("relay").join(name);
        let make = |folder: &Path| DirBuilder::new().recursive(true).mode(0o700).create(folder);
        make(&folder)?;
        let folder = folder.canonicalize()?;
        // In every sandbox the folder is a mount, which no job can replace. Its content may come from a job.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let folder_fd = open_without_links(&folder)?;
        for (_, name) in CACHE_VARIABLES {
            make_folder(&folder_fd, name)?;
        }
        let launcher = folder.with_extension("codex");
        make(&launcher.join(TEMP_DIR))?;
        let cargo = agent_env.get("CARGO_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".cargo")));
        if let Some(cargo) = cargo {
            let own_cargo = openat(&folder_fd, "cargo", FOLDER_FLAGS, Mode::empty())?;
            for name in CARGO_SETTINGS {
                free_name(&own_cargo, name)?;
                if cargo.join(name).exists() {
                    let _ = symlinkat(cargo.join(name), &own_cargo, name);
                }
            }
        }
        Ok(Self { folder, launcher })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the `CODEX_HOME` of the sandbox's launcher, which needs no settings of the user. Jobs can't write there.
    pub(crate) fn launcher_home(&self) -> &Path {
        &self.launcher
    }

    /// Returns the launcher's folder for temporary files.
    pub(crate) fn launcher_temp_dir(&self) -> PathBuf {
        self.launcher.join(TEMP_DIR)
    }

    /// Sets the variables that make tools use the caches, except those that the job itself sets.
    pub(crate) fn redirect(&self, env: &mut Variables, job_env: &Variables) {
        for (name, folder) in CACHE_VARIABLES {
            if !job_env.contains_key(name) {
                env.insert(name.to_owned(), self.folder.join(folder).display().to_string());
            }
        }
    }
}

/// Creates a folder in `parent`, unless there is a usable one. Anything else of that name is replaced.
fn make_folder(parent: &OwnedFd, name: &str) -> io::Result<()> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() && stat.st_mode & 0o700 == 0o700 => {
            return Ok(());
        }
        Ok(_) => free_name(parent, name)?,
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(mkdirat(parent, name, Mode::from_raw_mode(0o700))?)
}

/// Frees a name: renames a folder, or removes anything else.
fn free_name(parent: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut number = 0_u32;
    loop {
        match renameat_with(parent, name, parent, format!("{name}.unusable-{number}"), RenameFlags::NOREPLACE)
        {
            Err(Errno::EXIST) if number < MAX_RENAMED_FOLDERS => number += 1,
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_unusable_in_the_place_of_a_cache_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir(home.join(".cargo")).unwrap();
        fs::write(home.join(".cargo/config.toml"), "[net]\n").unwrap();
        let agent_env = Variables::from([("HOME".to_owned(), home.display().to_string())]);
        let open = || Caches::open(&agent_env, Path::new("/state"));
        let folder = open().unwrap().folder().to_owned();
        for round in 0..2 {
            fs::remove_dir_all(folder.join("pip")).unwrap();
            std::os::unix::fs::symlink("/nope/x", folder.join("pip")).unwrap();
            fs::remove_dir_all(folder.join("npm")).unwrap();
            fs::write(folder.join("npm"), "").unwrap();
            fs::set_permissions(folder.join("go"), fs::Permissions::from_mode(0o0)).unwrap();
            fs::remove_file(folder.join("cargo/config.toml")).unwrap();
            fs::create_dir(folder.join("cargo/config.toml")).unwrap();
            fs::remove_dir_all(folder.join("xdg")).unwrap();
            std::os::unix::fs::symlink(&home, folder.join("xdg")).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
            open().unwrap();
            for (_, name) in CACHE_VARIABLES {
                let meta = folder.join(name).symlink_metadata().unwrap();
                assert!(meta.is_dir() && meta.permissions().mode() & 0o777 == 0o700, "{name} {round}");
            }
            assert_eq!(fs::read_to_string(folder.join("cargo/config.toml")).unwrap(), "[net]\n");
        }
    }

    #[test]
    fn tools_use_the_workers_caches_and_cargo_keeps_its_settings() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir(home.join(".cargo")).unwrap();
        fs::write(home.join(".cargo/config.toml"), "[net]\n").unwrap();
        fs::write(home.join(".cargo/credentials.toml"), "token\n").unwrap();
        let agent_env = Variables::from([("HOME".to_owned(), home.display().to_string())]);
        let caches = Caches::open(&agent_env, Path::new("/state")).unwrap();
        assert!(caches.folder().starts_with(home.join(".cache/relay")));
        let job = Variables::from([("PIP_CACHE_DIR".to_owned(), "/mine".to_owned())]);
        let mut env = job.clone();
        caches.redirect(&mut env, &job);
        assert_eq!(env["PIP_CACHE_DIR"], "/mine");
        let cargo = Path::new(&env["CARGO_HOME"]);
        assert_eq!(fs::read_to_string(cargo.join("config.toml")).unwrap(), "[net]\n");
        assert!(!cargo.join("credentials.toml").exists());
        assert_ne!(Caches::open(&agent_env, Path::new("/other")).unwrap(), caches);
    }
}
