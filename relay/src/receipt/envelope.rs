//! Envelope of a receipt: a statement and its signatures, in the format DSSE (Dead Simple Signing Envelope).

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::key::ReceiptKey;

/// Type of the payload: an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Signed envelope of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    /// The statement, in base64.
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    keyid: String,
    /// The signature, in base64.
    sig: String,
}

impl Envelope {
    /// Signs a statement.
    ///
    /// # Errors
    /// Returns an error if the key can't sign.
    pub fn sign(statement: &[u8], key: &ReceiptKey) -> Result<Self, String> {
        let sig = BASE64_STANDARD.encode(key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, statement))?);
        Ok(Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: BASE64_STANDARD.encode(statement),
            signatures: vec![Signature { keyid: key.id(), sig }],
        })
    }

    /// Returns the statement, if a signature of the key is valid.
    ///
    /// # Errors
    /// Returns one line that says what is wrong.
    pub fn verify(&self, key: &ReceiptKey) -> Result<Vec<u8>, String> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err("its payload is not an in-toto statement".to_owned());
        }
        let payload = BASE64_STANDARD.decode(&self.payload).map_err(|_| "its payload is not base64")?;
        let message = pre_authentication_encoding(&self.payload_type, &payload);
        let id = key.id();
        let mut signatures_of_key =
            self.signatures.iter().filter(|signature| signature.keyid == id).peekable();
        if signatures_of_key.peek().is_none() {
            return Err("it has no signature of this project's key".to_owned());
        }
        let is_valid = |sig: &str| BASE64_STANDARD.decode(sig).is_ok_and(|sig| key.verify(&message, &sig));
        if signatures_of_key.any(|signature| is_valid(&signature.sig)) {
            return Ok(payload);
        }
        Err("its signature is not valid: the receipt was changed after it was signed".to_owned())
    }
}

/// Returns the bytes that a signature covers: type and content of the payload, with their lengths.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_matches_the_example_of_the_specification() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn every_changed_byte_of_an_envelope_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let key = ReceiptKey::load_or_create(dir.path()).unwrap();
        let json = serde_json::to_vec(&Envelope::sign(b"{\"a\":1}", &key).unwrap()).unwrap();
        let check = |json: &[u8]| match serde_json::from_slice::<Envelope>(json) {
            Ok(envelope) => envelope.verify(&key),
            Err(e) => Err(e.to_string()),
        };
        assert_eq!(check(&json).unwrap(), b"{\"a\":1}");
        for at in 0..json.len() {
            let mut changed = json.clone();
            changed[at] ^= 1;
            assert!(check(&changed).is_err(), "byte {at}: {}", String::from_utf8_lossy(&changed));
        }
        let other = tempfile::tempdir().unwrap();
        let other = ReceiptKey::load_or_create(other.path()).unwrap();
        let refused = serde_json::from_slice::<Envelope>(&json).unwrap().verify(&other).unwrap_err();
        assert_eq!(refused, "it has no signature of this project's key");
    }
}
