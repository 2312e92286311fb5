//! HTTP proxy for the processes of one job: tunnels, and requests for plain HTTP.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;

use super::job_network::JobNetwork;
use super::refusal::Refusal;
use super::target::Target;
use super::{connector, forward, secret_route};

/// Time limit for the head of a request, also of the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum length of a request's head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Body of an answer: of the proxy itself, or of a host.
type AnswerBody = Either<Full<Bytes>, Incoming>;

/// A tunnel whose host is connected, and whose client gets the answer to its CONNECT.
struct Tunnel {
    client: OnUpgrade,
    host: TcpStream,
}

/// Serves one connection of a job to the proxy, to its end.
pub(in crate::daemon) async fn serve_connection<S>(io: S, network: Arc<JobNetwork>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tunnel = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (network, tunnel) = (&network, &tunnel);
        async move { Ok::<_, Infallible>(answer(request, network, tunnel).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
    if let Err(e) = served {
        tracing::debug!("{}: a connection to the proxy ended: {e}", network.job());
    }
    let tunnel = tunnel.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(tunnel) = tunnel {
        copy_both_ways(tunnel, &network).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    network: &JobNetwork,
    tunnel: &Mutex<Option<Tunnel>>,
) -> Response<AnswerBody> {
    if secret_route::is_for_secret(&request) {
        return answer_with_secret(request, network).await;
    }
    let target = match Target::of_request(&request) {
        Ok(target) => target,
        Err(refusal) => return refusal.response().map(Either::Left),
    };
    let answered = if request.method() == Method::CONNECT {
        connector::connect(&target, network).await.map(|host| {
            let client = hyper::upgrade::on(&mut request);
            *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tunnel { client, host });
            Response::new(Either::Left(Full::default()))
        })
    } else {
        forward::forward(request, &target, network).await.map(|response| response.map(Either::Right))
    };
    match answered {
        Ok(response) => response,
        Err(refusal) => refuse(&refusal, &target, network).await,
    }
}

async fn answer_with_secret(request: Request<Incoming>, network: &JobNetwork) -> Response<AnswerBody> {
    let answered = match network.secret_routes() {
        Ok(routes) => routes.forward(request).await,
        Err(refusal) => Err(refusal),
    };
    match answered {
        Ok(answer) => answer.map(Either::Right),
        Err(refusal) => {
            tracing::debug!("{}: a request with a secret: {refusal}", network.job());
            refusal.response().map(Either::Left)
        }
    }
}

async fn refuse(refusal: &Refusal, target: &Target, network: &JobNetwork) -> Response<AnswerBody> {
    tracing::debug!("{}: {refusal}", network.job());
    if refusal.is_forbidden() {
        network.count_refused(target).await;
    }
    refusal.response().map(Either::Left)
}

/// Copies the bytes of a tunnel both ways until both directions have ended.
async fn copy_both_ways(tunnel: Tunnel, network: &JobNetwork) {
    let Tunnel { client, mut host } = tunnel;
    let copied = match client.await {
        Ok(client) => copy_bidirectional(&mut TokioIo::new(client), &mut host).await.map(drop),
        Err(e) => Err(std::io::Error::other(e)),
    };
    if let Err(e) = copied {
        tracing::debug!("{}: a tunnel ended early: {e}", network.job());
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
