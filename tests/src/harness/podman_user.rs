//! User for podman without root.
//!
//! Tests that run as root use a user whom `tests/run.sh` has created for them. Other tests run without root already.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs;

/// Name of the user, as in `tests/lib.sh`.
const NAME: &str = "relay-test-podman";

/// User for podman without root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanUser {
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl PodmanUser {
    /// Returns the user for tests that run as root; `None` for tests that run without root.
    pub fn find() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [NAME, _, uid, gid, _, home, _] = fields[..] else { return None };
            Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
        });
        assert!(found.is_some(), "there is no user {NAME} for podman without root: run ./tests/run.sh");
        found
    }

    /// Returns a folder for the files of tests, which this user can enter.
    pub fn folder(&self) -> PathBuf {
        let folder = self.home.join("tests");
        let made = fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o755)));
        made.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        folder
    }

    /// Copies the programs under test to a folder that this user can enter. Returns that folder.
    pub fn copy_programs(&self, parent: &Path) -> PathBuf {
        let folder = parent.join("programs");
        fs::create_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for program in ["relay", "worker-agent"] {
            let copied = fs::copy(programs::dir().join(program), folder.join(program));
            copied.unwrap_or_else(|e| panic!("{program}: {e}"));
        }
        folder
    }

    /// Gives `path` and the folders above it, up to `top`, to this user.
    pub fn give(&self, path: &Path, top: &Path) {
        for path in path.ancestors().take_while(|path| path.starts_with(top)) {
            chown(path, Some(self.uid), Some(self.gid)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }

    /// Makes a command run as this user, and use the settings and the storage of the user's podman.
    pub fn run_as(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid).env("XDG_RUNTIME_DIR", format!("/run/user/{}", self.uid));
        command.env("XDG_CONFIG_HOME", self.home.join(".config"));
        command.env("XDG_DATA_HOME", self.home.join(".local/share"));
        // They belong to the podman of root.
        for name in ["CONTAINERS_CONF", "STORAGE_DRIVER"] {
            command.env_remove(name);
        }
    }

    /// Returns a `podman` command of this user.
    pub fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        self.run_as(&mut command);
        command.current_dir(&self.home).env("HOME", &self.home);
        command
    }
}
