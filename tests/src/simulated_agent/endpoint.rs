//! Endpoint of a relay: address and credentials with which simulated agents connect.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use common::wire::TLS_NAME;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::harness::{Site, site, until};

/// Address of a relay, its certificate, and the tokens of the simulated agents.
#[derive(Debug, Clone)]
pub struct Endpoint {
    registry: PathBuf,
    state_dir: PathBuf,
    tls: Arc<ClientConfig>,
    /// Tokens by the name of their agent.
    tokens: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Endpoint {
    /// Returns the endpoint of a site's relay, which must have been started once.
    pub fn of_site(site: &Site) -> Self {
        let path = site.state().join("relay.pem");
        let pinned =
            CertificateDer::from_pem_file(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self {
            registry: site.registry(),
            state_dir: site.state(),
            tls: Arc::new(tls(pinned)),
            tokens: Arc::default(),
        }
    }

    /// Waits until the relay listens, and returns its current address.
    pub fn address(&self) -> SocketAddr {
        until("the relay's address", || {
            read_json(&self.registry.join("relay.json"))["listen"][0].as_str()?.parse().ok()
        })
    }

    /// Returns a TLS configuration that trusts only this relay.
    pub fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// Returns the token of the agent with this name. Every call returns the same token.
    pub fn token(&self, agent: &str) -> String {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(agent.to_owned()).or_insert_with(|| site::create_token(&self.state_dir)).clone()
    }

    /// Creates a token that no agent has used yet.
    pub fn fresh_token(&self) -> String {
        site::create_token(&self.state_dir)
    }
}

/// Returns the server name in the certificate of every relay.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(TLS_NAME).unwrap_or_else(|e| panic!("{TLS_NAME}: {e}"))
}

/// Creates a TLS configuration that accepts only the certificate `pinned`.
pub fn tls(pinned: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(pinned).unwrap_or_else(|e| panic!("no certificate: {e}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.unwrap_or_else(|e| panic!("no TLS 1.3: {e}"));
    builder.with_root_certificates(roots).with_no_client_auth()
}

fn read_json(path: &Path) -> Value {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
