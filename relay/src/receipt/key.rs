//! Ed25519 key with which a relay signs the receipts of its project, created on first use.

#![expect(clippy::disallowed_methods, reason = "the user's state folder, which no session may write")]

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::files::atomic::{self, Durability};

/// Name of the file that holds the key as PEM (PKCS #8), with mode 0600.
const KEY_FILE: &str = "key.pem";

/// Key pair that signs the receipts of a project.
#[derive(Debug)]
pub struct ReceiptKey {
    pair: KeyPair,
}

impl ReceiptKey {
    /// Loads the key from the folder of the receipts, or creates it there.
    ///
    /// # Errors
    /// Returns one line with the file and the reason. A key that can't be read is never replaced, because earlier
    /// receipts could no longer be checked.
    pub fn load_or_create(folder: &Path) -> Result<Self, String> {
        if let Some(key) = Self::load(folder)? {
            return Ok(key);
        }
        let path = key_path(folder);
        let error_line = |e: &dyn std::fmt::Display| format!("{} can't be made: {e}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| error_line(&e))?;
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(|e| error_line(&e))?;
        atomic::replace_file(&path, pair.serialize_pem().as_bytes(), Durability::Synced)
            .map_err(|e| error_line(&e))?;
        Ok(Self { pair })
    }

    /// Loads the key; `None` if there is none yet.
    ///
    /// # Errors
    /// Returns one line with the file and the reason.
    pub fn load(folder: &Path) -> Result<Option<Self>, String> {
        let path = key_path(folder);
        let error_line = |e: &dyn std::fmt::Display| format!("the key {} can't be read: {e}", path.display());
        let pem = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| error_line(&e))?,
        };
        let pair = KeyPair::from_pem(&pem).map_err(|e| error_line(&e))?;
        if !pair.is_compatible(&PKCS_ED25519) {
            return Err(error_line(&"it is not an Ed25519 key"));
        }
        Ok(Some(Self { pair }))
    }

    /// Returns the public key as PEM (SPKI).
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// Returns the id of the key, as TUF and in-toto compute it: SHA-256 of the public key's canonical JSON.
    pub fn id(&self) -> String {
        let public = hex::encode(self.pair.public_key_raw());
        let json = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#);
        hex::encode(Sha256::digest(json.as_bytes()))
    }

    /// Signs a message.
    ///
    /// # Errors
    /// Returns an error if the key can't sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.pair.sign(message).map_err(|e| format!("the receipt can't be signed: {e}"))
    }

    /// Returns true if the signature was made by this key for this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.pair.public_key_raw()).verify(message, signature).is_ok()
    }
}

fn key_path(folder: &Path) -> PathBuf {
    folder.join(KEY_FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_created_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("receipts");
        assert!(ReceiptKey::load(&folder).unwrap().is_none());
        let created = ReceiptKey::load_or_create(&folder).unwrap();
        let mode_of = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode_of(&folder), mode_of(&key_path(&folder))), (0o700, 0o600));
        let loaded = ReceiptKey::load_or_create(&folder).unwrap();
        assert_eq!((created.id(), created.public_pem()), (loaded.id(), loaded.public_pem()));
        assert!(created.public_pem().starts_with("-----BEGIN PUBLIC KEY-----"));
        let signature = created.sign(b"message").unwrap();
        assert!(loaded.verify(b"message", &signature) && !loaded.verify(b"messagf", &signature));
    }

    #[test]
    fn a_key_that_can_not_be_read_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(key_path(dir.path()), "garbage").unwrap();
        let refused = ReceiptKey::load_or_create(dir.path()).unwrap_err();
        assert!(refused.contains("key.pem can't be read") && refused.lines().count() == 1, "{refused}");
        assert_eq!(fs::read_to_string(key_path(dir.path())).unwrap(), "garbage");
    }
}
