//! Secrets that relay adds to the requests of jobs, in one file. Every use reads the file, so a change takes effect at
//! once.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::files::atomic::{self, Durability};
use crate::host_secret::{self, HostSecret};

/// Version of the format of the file.
const SCHEMA_VERSION: u32 = 1;
/// Maximum number of secrets. It bounds the file, which is read for each request.
const MAX_SECRETS: usize = 32;
/// Maximum size of the file, in bytes: of the most secrets with the longest values.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Secrets by name.
pub type SecretsByName = BTreeMap<String, HostSecret>;

/// File with the secrets of a project.
#[derive(Debug, Clone)]
pub struct HostSecrets {
    path: PathBuf,
}

/// Content of the file.
#[derive(Serialize, Deserialize)]
struct StoredSecrets {
    schema: u32,
    secrets: BTreeMap<String, StoredSecret>,
}

#[derive(Serialize, Deserialize)]
struct StoredSecret {
    host: String,
    header: String,
    prefix: String,
    value: String,
}

impl HostSecrets {
    pub(super) fn in_file(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns all secrets.
    ///
    /// # Errors
    /// One line with the file and the reason, without a value.
    pub fn load(&self) -> Result<SecretsByName, String> {
        let bytes = match read_private_file(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(SecretsByName::new()),
            Err(e) => return Err(self.unusable(&e)),
        };
        // serde's message may contain a value.
        let stored: Option<StoredSecrets> = serde_json::from_slice(&bytes).ok();
        let stored = stored.filter(|stored| stored.schema == SCHEMA_VERSION);
        let stored = stored.ok_or_else(|| self.unusable(&"it is not in a format that this relay knows"))?;
        let parse = |(name, stored): (String, StoredSecret)| {
            let secret = HostSecret::new(&stored.host, &stored.header, &stored.prefix, &stored.value);
            let secret = secret.map_err(|reason| self.unusable(&format!("in {name}, {reason}")))?;
            Ok((name, secret))
        };
        stored.secrets.into_iter().map(parse).collect()
    }

    /// Stores a secret. It replaces one of the same name.
    ///
    /// # Errors
    /// One line with the reason, without a value.
    pub fn set(&self, name: &str, secret: HostSecret) -> Result<(), String> {
        host_secret::check_name(name)?;
        let _lock = self.lock()?;
        let mut secrets = self.load()?;
        secrets.insert(name.to_owned(), secret);
        if secrets.len() > MAX_SECRETS {
            return Err(format!("there are {MAX_SECRETS} secrets already, which is the maximum"));
        }
        self.store(&secrets)
    }

    /// Removes a secret. Returns false if there is none of this name.
    ///
    /// # Errors
    /// One line with the reason, without a value.
    pub fn remove(&self, name: &str) -> Result<bool, String> {
        let _lock = self.lock()?;
        let mut secrets = self.load()?;
        if secrets.remove(name).is_none() {
            return Ok(false);
        }
        self.store(&secrets).map(|()| true)
    }

    fn store(&self, secrets: &SecretsByName) -> Result<(), String> {
        let store = |(name, secret): (&String, &HostSecret)| {
            let stored = StoredSecret {
                host: secret.origin().to_owned(),
                header: secret.header().to_string(),
                prefix: secret.prefix().to_owned(),
                value: secret.value().expose().to_owned(),
            };
            (name.clone(), stored)
        };
        let stored = StoredSecrets { schema: SCHEMA_VERSION, secrets: secrets.iter().map(store).collect() };
        let bytes = serde_json::to_vec(&stored).map_err(|e| self.unusable(&e))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err("the values of all secrets together are too long".to_owned());
        }
        atomic::replace_file(&self.path, &bytes, Durability::Synced).map_err(|e| self.unusable(&e))
    }

    /// Waits until no other process changes the secrets. The lock ends with the returned file.
    fn lock(&self) -> Result<File, String> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let locked = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
        locked.map_err(|e| self.unusable(&e))
    }

    fn unusable(&self, reason: &dyn std::fmt::Display) -> String {
        format!("the secrets in {} can't be used: {reason}", self.path.display())
    }
}

/// Reads a file that only its owner, this user, can read and write. Follows no link.
fn read_private_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let is_own = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_file() || !is_own || meta.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "it is not a file that only you can read: remove it, and set them again",
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret(value: &str) -> HostSecret {
        HostSecret::new("api.example.org", "X-Key", "", value).unwrap()
    }

    fn secrets(dir: &tempfile::TempDir) -> HostSecrets {
        HostSecrets::in_file(dir.path().join("secrets.json"))
    }

    #[test]
    fn secrets_are_stored_in_a_private_file_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets(&dir);
        assert!(secrets.load().unwrap().is_empty());
        secrets.set("b", secret("one")).unwrap();
        let full =
            HostSecret::new("http://10.0.0.1:81", "Authorization", "Bearer ", "two \"\\ three").unwrap();
        secrets.set("a", full.clone()).unwrap();
        secrets.set("b", secret("new")).unwrap();
        assert_eq!(fs::metadata(&secrets.path).unwrap().permissions().mode() & 0o777, 0o600);
        let expected = [("a".to_owned(), full), ("b".to_owned(), secret("new"))];
        assert_eq!(secrets.load().unwrap(), SecretsByName::from(expected.clone()));
        assert_eq!((secrets.remove("b"), secrets.remove("b")), (Ok(true), Ok(false)));
        assert_eq!(secrets.load().unwrap(), SecretsByName::from([expected[0].clone()]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn bad_names_and_too_many_secrets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets(&dir);
        for name in ["", "Demo", "../x", "a/b", "-a", "a_b"] {
            let refused = secrets.set(name, secret("value")).unwrap_err();
            assert!(refused.contains("is no name of a secret"), "{refused}");
        }
        assert!(!secrets.path.exists());
        for number in 0..MAX_SECRETS {
            secrets.set(&format!("n{number}"), secret("value")).unwrap();
        }
        assert!(secrets.set("more", secret("value")).unwrap_err().contains("the maximum"));
        secrets.set("n1", secret("other")).unwrap();
    }

    #[test]
    fn a_link_an_open_file_and_unknown_content_are_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets(&dir);
        let other = dir.path().join("other");
        let check_refused = |reason: &str| {
            for refused in [secrets.load().unwrap_err(), secrets.set("a", secret("value")).unwrap_err()] {
                assert!(refused.contains("secrets.json can't be used: "), "{refused}");
                assert!(refused.contains(reason) && !refused.contains("s3cret"), "{refused}");
            }
        };
        fs::write(&other, "s3cret").unwrap();
        std::os::unix::fs::symlink(&other, &secrets.path).unwrap();
        check_refused("symbolic link");
        assert_eq!(fs::read_to_string(&other).unwrap(), "s3cret");
        fs::remove_file(&secrets.path).unwrap();
        fs::write(&secrets.path, "{\"schema\": \"s3cret\"}").unwrap();
        fs::set_permissions(&secrets.path, fs::Permissions::from_mode(0o600)).unwrap();
        check_refused("not in a format");
        fs::set_permissions(&secrets.path, fs::Permissions::from_mode(0o640)).unwrap();
        check_refused("only you can read");
        assert_eq!(fs::read_to_string(&secrets.path).unwrap(), "{\"schema\": \"s3cret\"}");
    }
}
