//! Secret of a project from which the jobs' tokens for the model are derived. So no token is stored, and the tokens of
//! running jobs stay valid when relay is restarted.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::ids::JobId;
use common::wire::ModelToken;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::files::atomic::{self, Durability};

/// Length of the secret in bytes.
const LENGTH: usize = 32;

/// Secret of a project.
#[derive(Clone)]
pub struct ModelSecret(Arc<[u8; LENGTH]>);

// Implemented by hand: the secret must not get into a log.
impl std::fmt::Debug for ModelSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelSecret(…)")
    }
}

impl ModelSecret {
    /// Loads the secret from its file, or creates it there.
    ///
    /// # Errors
    /// Returns one line with the file and the reason. A file that can't be read is never replaced, because running jobs
    /// would lose the model.
    pub fn load_or_create(path: &Path) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("the secret {} can't be used: {e}", path.display());
        match fs::read(path) {
            Ok(bytes) => {
                let secret = <[u8; LENGTH]>::try_from(bytes);
                secret.map(|secret| Self(Arc::new(secret))).map_err(|_| failed(&"it has a wrong length"))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; LENGTH];
                getrandom::fill(&mut secret).map_err(|e| failed(&e))?;
                atomic::replace_file(path, &secret, Durability::Synced).map_err(|e| failed(&e))?;
                Ok(Self(Arc::new(secret)))
            }
            Err(e) => Err(failed(&e)),
        }
    }

    /// Returns the token of one run of a job.
    ///
    /// # Errors
    /// Never fails for a secret of this length.
    pub fn token(&self, job: &JobId, epoch: u32) -> Result<ModelToken, String> {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice());
        let mut mac = mac.map_err(|e| format!("the job's token can't be made: {e}"))?;
        mac.update(format!("model {job} {epoch}").as_bytes());
        Ok(ModelToken::new(hex::encode(mac.finalize().into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_run_has_a_token_of_its_own_that_a_restart_does_not_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model-secret");
        let secret = ModelSecret::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token =
            |secret: &ModelSecret, job: &str, epoch| secret.token(&job.parse().unwrap(), epoch).unwrap();
        let first = token(&secret, "a#1", 1);
        assert_eq!(token(&ModelSecret::load_or_create(&path).unwrap(), "a#1", 1), first);
        for (job, epoch) in [("a#1", 2), ("a#2", 1), ("b#1", 1)] {
            assert_ne!(token(&secret, job, epoch), first, "{job} {epoch}");
        }
        assert_eq!(first.as_str().len(), 64);
    }

    #[test]
    fn a_secret_that_can_not_be_read_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model-secret");
        fs::write(&path, "short").unwrap();
        let refused = ModelSecret::load_or_create(&path).unwrap_err();
        assert!(refused.contains("model-secret can't be used") && refused.lines().count() == 1, "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");
    }
}
