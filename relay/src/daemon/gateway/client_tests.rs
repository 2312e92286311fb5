use std::sync::Mutex;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::super::test_support::{KEY, exchange, http_answer, post, route_through, status_and_body};
use super::*;

const HOST: &str = "model.example";

/// Creates a certificate for the model's server, and what serves it.
fn certificate() -> (CertificateDer<'static>, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
    let certificate = certificate.der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    (certificate, TlsAcceptor::from(Arc::new(config.unwrap())))
}

/// Returns TLS settings that trust these certificates.
fn trusting(certificates: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Serves the model behind a proxy: the tunnel's head, then TLS, then one request.
async fn serve_tunnel(mut stream: TcpStream, acceptor: TlsAcceptor, heads: Arc<Mutex<Vec<String>>>) {
    let head = read_head(&mut stream).await;
    heads.lock().unwrap().push(head);
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let head = read_head(&mut stream).await;
    heads.lock().unwrap().push(head);
    let answer = http_answer("200 OK", "application/json", "{}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
    // A connection that is closed with unread bytes would lose the answer.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Sends a request through a proxy to a server with a certificate of its own. Returns the answer, and the heads of
/// the requests to the proxy and to the server.
async fn exchange_through_proxy(
    tls: impl Fn(CertificateDer<'static>) -> Arc<ClientConfig>,
) -> (String, Vec<String>) {
    let (certificate, acceptor) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://user:word@{}", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_tunnel(stream, acceptor.clone(), Arc::clone(&kept)));
        }
    });
    let client = new_client(Some(tls(certificate)), Matcher::builder().all(proxy).build());
    let route = route_through(&format!("https://{HOST}/v1"), client);
    let answer = exchange(&route, &post("/v1/responses", "{}")).await;
    let heads = heads.lock().unwrap().clone();
    (answer, heads)
}

#[tokio::test]
async fn a_server_is_reached_with_tls_through_a_proxy() {
    let (answer, heads) = exchange_through_proxy(|certificate| trusting(&[certificate])).await;
    assert_eq!(status_and_body(&answer), ("HTTP/1.1 200 OK", "{}"));
    let [tunnel, request] = &heads[..] else { panic!("{heads:?}") };
    assert!(tunnel.starts_with("CONNECT model.example:443 HTTP/1.1\r\n"), "{tunnel}");
    assert!(tunnel.contains("Proxy-Authorization: Basic ") && !tunnel.contains(KEY), "{tunnel}");
    assert!(request.starts_with("POST /v1/responses?api%2Dversion=") && request.contains(KEY), "{request}");
}

#[tokio::test]
async fn a_certificate_that_the_system_does_not_trust_gets_no_key() {
    let system = |_| system_tls().unwrap_or_else(|_| trusting(&[]));
    let (answer, heads) = exchange_through_proxy(system).await;
    let (status, body) = status_and_body(&answer);
    assert_eq!(status, "HTTP/1.1 502 Bad Gateway");
    assert!(
        body.contains("the model's server model.example can't be reached: ") && body.contains("ertificate"),
        "{body}"
    );
    assert_eq!(heads.len(), 1, "{heads:?}");
}
