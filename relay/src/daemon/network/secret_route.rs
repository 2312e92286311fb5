//! Requests to the hosts of secrets: the proxy adds the secret, so no process of the job has it.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use common::secret_route::PATH_PREFIX;
use common::text_format::one_line;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{EXPECT, HOST, PROXY_AUTHORIZATION};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;

use super::refusal::Refusal;
use crate::daemon::gateway::{
    RequestBody, UpstreamClient, WorkerBody, find_proxy, new_client, remove_hop_by_hop, system_tls,
};
use crate::host_secret::HostSecret;
use crate::state_dir::host_secrets::HostSecrets;

/// Maximum length of the name of an unknown secret in an answer, in bytes.
const MAX_SHOWN_NAME: usize = 60;
/// Maximum length of the reason of a failure in an answer, in bytes.
const MAX_REASON: usize = 200;

/// Way to the hosts of the secrets. All jobs share it, and its connections.
#[derive(Clone)]
pub(in crate::daemon) struct SecretRoutes {
    /// File with the secrets, which is read for each request.
    secrets: HostSecrets,
    proxies: Arc<Matcher>,
    /// Client, once it was needed: the system's certificates take time to load.
    client: Arc<OnceLock<UpstreamClient>>,
}

impl std::fmt::Debug for SecretRoutes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretRoutes").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

impl SecretRoutes {
    /// Creates the way to the hosts of these secrets.
    pub(in crate::daemon) fn new(secrets: HostSecrets) -> Self {
        Self { secrets, proxies: Arc::new(Matcher::from_env()), client: Arc::default() }
    }

    /// Passes a request on to the host of the secret that it names, and returns the answer.
    pub(super) async fn forward(&self, request: Request<Incoming>) -> Result<Response<Incoming>, Refusal> {
        // The host would send the secret back.
        if request.method() == Method::TRACE {
            return Err(Refusal::Trace);
        }
        let (name, path) = split_path(request.uri());
        let (secret, client) = self.find(name).await?;
        let target = format!("{}{path}", secret.origin()).parse::<Uri>();
        let target = target.map_err(|_| Refusal::BadTarget)?;
        let request = self.for_host(request, target, &secret)?;
        let answer = client.request(request).await.map_err(|e| failure(&e, &secret))?;
        let (mut parts, body) = answer.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        parts.version = Version::HTTP_11;
        Ok(Response::from_parts(parts, body))
    }

    /// Returns the secret of this name, and the client. Reads files, so it leaves the thread.
    async fn find(&self, name: String) -> Result<(HostSecret, UpstreamClient), Refusal> {
        let routes = self.clone();
        let found = tokio::task::spawn_blocking(move || {
            let secrets = routes.secrets.load().map_err(|reason| {
                tracing::warn!("{reason}");
                Refusal::UnreadableSecrets
            })?;
            let secret = secrets.get(&name).cloned();
            let secret = secret.ok_or_else(|| Refusal::UnknownSecret(one_line(&name, MAX_SHOWN_NAME)))?;
            Ok((secret, routes.client().clone()))
        });
        found.await.unwrap_or(Err(Refusal::UnreadableSecrets))
    }

    fn client(&self) -> &UpstreamClient {
        self.client.get_or_init(|| {
            // Hosts without TLS can be reached all the same.
            let tls = system_tls().inspect_err(|reason| tracing::warn!("{reason}")).ok();
            new_client(tls, Matcher::from_env())
        })
    }

    /// Returns a request as its host expects it: with the secret in place of a header that the job has chosen.
    fn for_host(
        &self,
        request: Request<Incoming>,
        target: Uri,
        secret: &HostSecret,
    ) -> Result<Request<RequestBody>, Refusal> {
        let (mut parts, body) = request.into_parts();
        let unusable = |reason: String| Refusal::Unreachable(secret.origin().to_owned(), reason);
        let proxy = find_proxy(&self.proxies, &target).map_err(|scheme| {
            unusable(format!("the relay can't use its proxy, which begins with {scheme}://"))
        })?;
        remove_hop_by_hop(&mut parts.headers);
        // The client names the host itself.
        for name in [HOST, EXPECT] {
            parts.headers.remove(name);
        }
        let value = secret.header_value().ok_or(Refusal::UnreadableSecrets)?;
        parts.headers.insert(secret.header(), value);
        // A tunnel has its own request to the proxy.
        if target.scheme_str() == Some("http")
            && let Some(auth) = proxy.as_ref().and_then(|proxy| proxy.basic_auth())
        {
            parts.headers.insert(PROXY_AUTHORIZATION, auth.clone());
        }
        (parts.uri, parts.version) = (target, Version::HTTP_11);
        Ok(Request::from_parts(parts, Either::Left(WorkerBody::unlimited(body))))
    }
}

/// Returns true for a request to the proxy itself that names a secret.
pub(super) fn is_for_secret<B>(request: &Request<B>) -> bool {
    request.uri().authority().is_none() && request.uri().path().starts_with(PATH_PREFIX)
}

/// Returns the name of the secret, and the path at its host with the parameters.
fn split_path(uri: &Uri) -> (String, String) {
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let rest = path.strip_prefix(PATH_PREFIX).unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (name, path) = rest.split_at(end);
    let slash = if path.starts_with('/') { "" } else { "/" };
    (name.to_owned(), format!("{slash}{path}"))
}

/// Returns the refusal for a request that failed, without the secret.
fn failure(error: &legacy::Error, secret: &HostSecret) -> Refusal {
    // The innermost cause is the specific one; the outer ones say only which layer failed.
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&cause| cause.source());
    let reason = causes.last().map(ToString::to_string).unwrap_or_default();
    let reason = one_line(&secret.value().mask(reason), MAX_REASON);
    let host = secret.origin().to_owned();
    if error.is_connect() { Refusal::Unreachable(host, reason) } else { Refusal::BadAnswer(host, reason) }
}

#[cfg(test)]
#[path = "secret_route_tests.rs"]
mod tests;
