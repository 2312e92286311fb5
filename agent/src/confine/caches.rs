//! Caches of package managers that belong to workers alone. In the person's own a worker could leave what that person
//! builds with later.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, symlinkat, unlinkat};

use super::cage::open_without_links;
use crate::environment::Variables;

/// Variables of tools that don't follow `XDG_CACHE_HOME`, and their folders.
const FOLDERS: [(&str, &str); 8] = [
    ("XDG_CACHE_HOME", "xdg"),
    ("npm_config_cache", "npm"),
    ("YARN_CACHE_FOLDER", "yarn"),
    ("PIP_CACHE_DIR", "pip"),
    ("CARGO_HOME", "cargo"),
    ("GOMODCACHE", "go"),
    ("GRADLE_USER_HOME", "gradle"),
    ("BUN_INSTALL_CACHE_DIR", "bun"),
];
/// Files that cargo reads in its home beside its caches. Credentials of a registry stay out.
const CARGO: [&str; 2] = ["config.toml", "config"];

/// The caches of one agent's workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caches {
    folder: PathBuf,
    launcher: PathBuf,
}

impl Caches {
    /// Those in the cache folder of the person whose environment this is, by the agent's state folder; made if missing.
    ///
    /// # Errors
    /// The failing call.
    pub(crate) fn open(own: &Variables, state: &Path) -> io::Result<Self> {
        let home = own.get("HOME").map(Path::new);
        let base = own.get("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".cache")));
        let base = base.filter(|base| base.is_absolute());
        let base = base.ok_or_else(|| io::Error::other("HOME is not set"))?;
        let name = format!("{:08x}", crc32c::crc32c(state.as_os_str().as_encoded_bytes()));
        let folder = base.join("relay").join(name);
        for (_, name) in FOLDERS {
            DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name))?;
        }
        let folder = folder.canonicalize()?;
        let launcher = folder.with_extension("codex");
        DirBuilder::new().recursive(true).mode(0o700).create(&launcher)?;
        let cargo = own.get("CARGO_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".cargo")));
        if let Some(cargo) = cargo {
            // A worker may have put anything there, a link in the folder's own place too.
            let own = open_without_links(&folder.join("cargo"))?;
            for name in CARGO {
                let _ = unlinkat(&own, name, AtFlags::empty());
                if cargo.join(name).exists() {
                    let _ = symlinkat(cargo.join(name), &own, name);
                }
            }
        }
        Ok(Self { folder, launcher })
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The `CODEX_HOME` of the sandbox's launcher, which needs no settings of the person's. Jobs can't write there.
    pub(crate) fn launcher(&self) -> &Path {
        &self.launcher
    }

    /// Leads tools there, unless the job itself says where to.
    pub(crate) fn lead(&self, env: &mut Variables, job: &Variables) {
        for (name, folder) in FOLDERS {
            if !job.contains_key(name) {
                env.insert(name.to_owned(), self.folder.join(folder).display().to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn tools_are_led_to_caches_of_their_own_and_cargo_keeps_its_settings() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir(home.join(".cargo")).unwrap();
        fs::write(home.join(".cargo/config.toml"), "[net]\n").unwrap();
        fs::write(home.join(".cargo/credentials.toml"), "token\n").unwrap();
        let own = Variables::from([("HOME".to_owned(), home.display().to_string())]);
        let caches = Caches::open(&own, Path::new("/state")).unwrap();
        assert!(caches.folder().starts_with(home.join(".cache/relay")));
        let job = Variables::from([("PIP_CACHE_DIR".to_owned(), "/mine".to_owned())]);
        let mut env = job.clone();
        caches.lead(&mut env, &job);
        assert_eq!(env["PIP_CACHE_DIR"], "/mine");
        let cargo = Path::new(&env["CARGO_HOME"]);
        assert_eq!(fs::read_to_string(cargo.join("config.toml")).unwrap(), "[net]\n");
        assert!(!cargo.join("credentials.toml").exists());
        assert_ne!(Caches::open(&own, Path::new("/other")).unwrap(), caches);
    }
}
