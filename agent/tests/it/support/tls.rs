//! The certificate of the fake relays of a test process, and their end of TLS.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Identity of a TLS server: a private key and a certificate.
pub(crate) struct Identity {
    /// The certificate in PEM form, for an agent's configuration.
    pub(crate) pem: String,
    acceptor: TlsAcceptor,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let generated = rcgen::generate_simple_self_signed(vec![common::wire::TLS_NAME.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![generated.cert.der().clone()], key)
            .unwrap();
        Self { pem: generated.cert.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Accepts a connection and completes the TLS handshake.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

/// Returns the identity that all fake relays of this process share.
pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(Identity::new)
}

/// Returns the configuration of an agent that connects to a fake relay of this process.
pub(crate) fn config(url: &str, token: &str) -> serde_json::Value {
    serde_json::json!({"url": url, "certificate": identity().pem, "token": token})
}
