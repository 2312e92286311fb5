//! TLS identity of a project's relay: a key and a self-signed certificate, created once and pinned by agents.

#![expect(clippy::disallowed_methods, reason = "the user's state folder, which no session may write")]

use std::fs;
use std::io;
use std::sync::Arc;

use common::wire;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::files::atomic::{self, Durability};
use crate::state_dir::StateDir;

/// First byte of a TLS connection: the content type of a handshake record. No HTTP request begins with it.
pub(super) const HANDSHAKE_RECORD: u8 = 0x16;

/// Key and certificate of this project's relay.
#[derive(Clone)]
pub(super) struct TlsIdentity {
    /// Certificate (PEM), for agents to pin.
    pub(super) certificate: Arc<str>,
    /// Acceptor of TLS connections with this identity.
    pub(super) acceptor: TlsAcceptor,
}

impl TlsIdentity {
    /// Loads the stored identity. If there is no usable identity, creates a new one. Agents that have pinned the old
    /// identity can't reconnect, so their tokens are revoked.
    ///
    /// # Errors
    /// A one-line message if the identity can't be created or stored.
    pub(super) fn load(state: &StateDir) -> Result<Self, String> {
        let path = state.identity();
        let stored = fs::read_to_string(&path).ok();
        if let Some(identity) = stored.as_deref().and_then(|pem| Self::parse(pem).ok()) {
            return Ok(identity);
        }
        state.tokens().revoke_all();
        let pem = generate_identity().map_err(|e| format!("the relay's certificate can't be made: {e}"))?;
        atomic::replace_file(&path, pem.as_bytes(), Durability::Synced)
            .map_err(|e| format!("the relay's certificate can't be stored in {}: {e}", path.display()))?;
        Self::parse(&pem)
    }

    fn parse(pem: &str) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
            .map_err(|e| e.to_string())?;
        // Agents never resume a TLS session: tickets and a session cache would be useless.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let begin = pem.find("-----BEGIN CERTIFICATE-----").ok_or("there is no certificate")?;
        Ok(Self { certificate: pem[begin..].into(), acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

/// Creates a new key and its certificate, as PEM. The certificate is valid so long that clock differences don't matter.
fn generate_identity() -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![wire::TLS_NAME.to_owned()])?;
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(4096, 1, 1);
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// Formats the reason of a failed handshake, for the log.
pub(super) fn handshake_failure_reason(error: &io::Error) -> String {
    common::text_format::one_line(&error.to_string(), 200)
}
