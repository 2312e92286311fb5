//! Signatures of the Standard Webhooks scheme (<https://www.standardwebhooks.com>): HMAC-SHA256 over id, time and body.

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::bounded_file;
use crate::config::SecretSource;

/// Prefix of a secret that is given in base64.
const BASE64_SECRET_PREFIX: &str = "whsec_";

/// Reads the secret of a webhook from a file or an environment variable.
///
/// # Errors
/// A one-line message: the secret is missing, is empty, or is not valid base64 after `whsec_`.
pub(super) fn read_secret(source: &SecretSource) -> Result<Vec<u8>, String> {
    let (name, text) = match source {
        SecretSource::File(path) => {
            let name = format!("the webhook's secret {}", path.display());
            let bytes = bounded_file::read_bounded(path).map_err(|e| format!("{name} can't be read: {e}"))?;
            let text = String::from_utf8(bytes).map_err(|e| format!("{name} can't be read: {e}"))?;
            (name, text)
        }
        SecretSource::Variable(variable) => {
            let name = format!("the webhook's secret ${variable}");
            (name.clone(), std::env::var(variable).map_err(|e| format!("{name}: {e}"))?)
        }
    };
    match text.trim() {
        "" => Err(format!("{name} is empty")),
        text => match text.strip_prefix(BASE64_SECRET_PREFIX) {
            Some(encoded) => BASE64_STANDARD
                .decode(encoded)
                .map_err(|e| format!("{name} is not base64 after {BASE64_SECRET_PREFIX}: {e}")),
            None => Ok(text.as_bytes().to_vec()),
        },
    }
}

/// Signs a webhook's POST; returns the value of the header `webhook-signature`.
pub(super) fn sign(secret: &[u8], id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_scheme_gets_the_documented_signature() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let secret = read_secret(&SecretSource::File(file)).unwrap();
        let signed = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn an_unusable_secret_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let read = || read_secret(&SecretSource::File(file.clone()));
        assert!(read().unwrap_err().contains("can't be read"));
        for (text, expected) in [(" \n", "is empty"), ("whsec_%", "is not base64")] {
            std::fs::write(&file, text).unwrap();
            assert!(read().unwrap_err().contains(expected), "{text}");
        }
        std::fs::write(&file, "plain text\n").unwrap();
        assert_eq!(read(), Ok(b"plain text".to_vec()));
        assert!(read_secret(&SecretSource::Variable("RELAY_NOT_SET_ANYWHERE".into())).is_err());
    }
}
