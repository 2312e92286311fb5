//! The model's server: where requests go, and what is put into them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::body_memory::BodyMemory;
use super::client::{self, UpstreamClient};
use super::endpoint::Endpoint;
use super::headers;
use super::login::{Login, LoginError, LoginHold};
use super::worker_body::{BodyError, WorkerBody};
use crate::model_server::{ChatGptLogin, ModelApi, Secret, UpstreamSettings};

/// Header with the key of the Messages API.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Headers of an account of `ChatGPT`.
const ACCOUNT_HEADER: HeaderName = HeaderName::from_static("chatgpt-account-id");
const FEDRAMP_HEADER: HeaderName = HeaderName::from_static("x-openai-fedramp");

/// Reason why the model's server can't be used. It contains no value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The base URL is not valid.
    #[error("the model's base URL {0}")]
    BaseUrl(&'static str),
    /// A header is not valid.
    #[error("the header {0:?} of the model's provider is not valid")]
    Header(String),
    /// The key is not valid.
    #[error("the model's key has characters that a header can't hold")]
    Key,
    /// The URL of the token endpoint is not valid.
    #[error("the URL for refreshed ChatGPT logins {0}")]
    RefreshUrl(&'static str),
    /// The environment names a proxy of a kind that the gateway can't use.
    #[error(
        "the proxy for the model's server begins with {0}://, which the gateway can't use: set one with http://"
    )]
    Proxy(String),
    /// TLS is not available.
    #[error("{0}")]
    Tls(String),
}

/// Failure of a request to the model's server.
#[derive(Debug)]
pub(super) enum SendError {
    /// The worker's body could not be read.
    Body(BodyError),
    /// The request has no login.
    Login(LoginError),
    /// The way to the server, or its answer. The cause may be the worker's body.
    Client(legacy::Error),
}

/// The model's server, with the pool of connections to it.
pub struct Upstream {
    api: ModelApi,
    base: Uri,
    query: String,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    client: UpstreamClient,
    /// `ChatGPT` login that is sent in place of a key.
    login: Option<Arc<Login>>,
    /// Memory for the requests with that login.
    pub(super) memory: BodyMemory,
}

impl Upstream {
    /// Prepares a server. Nothing is sent yet.
    ///
    /// # Errors
    /// Returns an error for settings that can't be used.
    pub fn new(settings: &UpstreamSettings) -> Result<Self, UpstreamError> {
        Self::through_proxy(settings, Matcher::from_env())
    }

    /// Prepares a server that is reached through these proxies.
    fn through_proxy(settings: &UpstreamSettings, proxies: Matcher) -> Result<Self, UpstreamError> {
        let base = parse_base_url(&settings.base_url)?;
        let proxy = client::find_proxy(&proxies, &base).map_err(UpstreamError::Proxy)?;
        let has_tls = base.scheme() == Some(&Scheme::HTTPS);
        // A tunnel has its own request to the proxy; without one, each request goes to the proxy.
        let proxy_auth = proxy.as_ref().filter(|_| !has_tls).and_then(|proxy| proxy.basic_auth().cloned());
        let needs_tls =
            has_tls || settings.login.as_ref().is_some_and(|login| login.refresh_url.starts_with("https:"));
        let tls = needs_tls.then(client::system_tls).transpose().map_err(UpstreamError::Tls)?;
        let mut upstream = Self::with_client(settings, client::new_client(tls, proxies))?;
        if let Some(mut auth) = proxy_auth {
            auth.set_sensitive(true);
            upstream.headers.insert(PROXY_AUTHORIZATION, auth);
        }
        Ok(upstream)
    }

    /// Prepares a server that is reached with this client.
    pub(super) fn with_client(
        settings: &UpstreamSettings,
        client: UpstreamClient,
    ) -> Result<Self, UpstreamError> {
        let base = parse_base_url(&settings.base_url)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let invalid = || UpstreamError::Header(name.clone());
            let name: HeaderName = name.parse().map_err(|_| invalid())?;
            headers.insert(name, header_value(value.expose()).ok_or_else(invalid)?);
        }
        if let Some(key) = &settings.key {
            let (name, value) = match settings.api {
                ModelApi::Responses => (AUTHORIZATION, format!("Bearer {}", key.expose())),
                ModelApi::Messages => (API_KEY, key.expose().to_owned()),
            };
            headers.insert(name, header_value(&value).ok_or(UpstreamError::Key)?);
        }
        let (query, secrets) = (encode_query(&settings.query), masked_values(settings));
        let login = settings.login.as_ref().map(|login| {
            let url = parse_url(&login.refresh_url).map_err(UpstreamError::RefreshUrl)?;
            Ok(Arc::new(Login::new(login, url, client.clone())))
        });
        let (login, memory) = (login.transpose()?, BodyMemory::default());
        Ok(Self { api: settings.api, base, query, headers, secrets, client, login, memory })
    }

    /// Returns the API of the server.
    pub(super) fn api(&self) -> ModelApi {
        self.api
    }

    /// Returns the host of the server, for messages.
    pub(super) fn host(&self) -> &str {
        self.base.host().unwrap_or_default()
    }

    /// Returns the values that must not reach a worker.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let tokens = self.login.as_ref().map(|login| login.secrets());
        // Tokens are the longest values.
        tokens.into_iter().flatten().chain(self.secrets.iter().cloned()).collect()
    }

    /// Replaces all secrets in a text.
    pub(super) fn mask(&self, text: &str) -> String {
        self.secrets().iter().fold(text.to_owned(), |text, secret| secret.mask(text))
    }

    /// Returns the reason why no request can be sent, as far as it is known.
    pub(in crate::daemon) fn problem(&self) -> Option<String> {
        self.login.as_ref().and_then(|login| login.problem())
    }

    /// Returns the number of times that others than this relay have replaced the login.
    pub(in crate::daemon) fn login_replacements(&self) -> u64 {
        self.login.as_ref().map_or(0, |login| login.replacements())
    }

    /// Waits for a refresh of the login that is under way. Until the returned value is dropped, no other one begins.
    pub(in crate::daemon) async fn hold_login(&self) -> Option<LoginHold> {
        match &self.login {
            Some(login) => Some(login.hold().await),
            None => None,
        }
    }

    /// Sends a worker's request to the server, with the key in place of the worker's token.
    pub(super) async fn send(
        &self,
        endpoint: Endpoint,
        request: Request<WorkerBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let (worker, body) = request.into_parts();
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = worker.method;
        head.uri = self.target(endpoint, worker.uri.query());
        head.headers = headers::for_upstream(worker.headers);
        for (name, value) in &self.headers {
            head.headers.insert(name, value.clone());
        }
        match &self.login {
            None => {
                let request = Request::from_parts(head, Either::Left(body));
                self.client.request(request).await.map_err(SendError::Client)
            }
            Some(login) => self.send_with_login(login, head, body).await,
        }
    }

    /// Sends a request with the user's login, and once more with a refreshed one if the server rejects it. So its body
    /// is read to the end first, unless it is too large: then the worker's Codex has to send it again.
    async fn send_with_login(
        &self,
        login: &Arc<Login>,
        head: Parts,
        body: WorkerBody,
    ) -> Result<Response<Incoming>, SendError> {
        let (body, kept) = match self.memory.keep(body).await.map_err(SendError::Body)? {
            Either::Left(body) => (Either::Left(body), None),
            Either::Right(kept) => (Either::Right(Full::new(kept.bytes.clone())), Some(kept)),
        };
        let first = login.current_login(None).await.map_err(SendError::Login)?;
        let answer = self.send_as(&first, &head, body).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let next = login.current_login(Some(first.access_token.clone())).await.map_err(SendError::Login)?;
        if next.access_token == first.access_token {
            return Ok(answer);
        }
        drop(answer);
        let kept = kept.as_ref().ok_or(SendError::Login(LoginError::Refreshed))?;
        let body = Either::Right(Full::new(kept.bytes.clone()));
        self.send_as(&next, &head, body).await
    }

    async fn send_as(
        &self,
        login: &ChatGptLogin,
        head: &Parts,
        body: Either<WorkerBody, Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        let mut request = Request::from_parts(head.clone(), body);
        for (name, value) in login_headers(login).map_err(SendError::Login)? {
            request.headers_mut().insert(name, value);
        }
        self.client.request(request).await.map_err(SendError::Client)
    }

    /// Returns the URL of an endpoint, with the configured parameters, and the few of a worker that are passed on.
    fn target(&self, endpoint: Endpoint, query: Option<&str>) -> Uri {
        let path = self.base.path().trim_end_matches('/');
        let worker = endpoint.passed_query(query);
        let parameters = [worker, &self.query];
        let parameters: Vec<&str> = parameters.into_iter().filter(|text| !text.is_empty()).collect();
        let mark = if parameters.is_empty() { "" } else { "?" };
        let target = format!("{path}{}{mark}{}", endpoint.path(), parameters.join("&"));
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(target).ok();
        Uri::from_parts(parts).unwrap_or_else(|_| self.base.clone())
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("host", &self.host()).finish_non_exhaustive()
    }
}

/// Returns the headers of a request with a login.
fn login_headers(login: &ChatGptLogin) -> Result<Vec<(HeaderName, HeaderValue)>, LoginError> {
    let bearer = Some((AUTHORIZATION, format!("Bearer {}", login.access_token.expose())));
    let account = login.account_id.clone().map(|id| (ACCOUNT_HEADER, id));
    let fedramp = login.is_fedramp.then(|| (FEDRAMP_HEADER, "true".to_owned()));
    let invalid = || LoginError::Invalid("it has characters that a header can't hold".to_owned());
    let headers = [bearer, account, fedramp].into_iter().flatten();
    headers.map(|(name, value)| Ok((name, header_value(&value).ok_or_else(invalid)?))).collect()
}

/// Returns the value of a header that `Debug` never shows.
fn header_value(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn encode_query(parameters: &[(String, Secret)]) -> String {
    let encoded = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value.expose())));
    encoded.collect::<Vec<_>>().join("&")
}

fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Returns everything that must not reach a worker: the values of the settings, the credentials after a header's
/// scheme, and each of them as it is written in a URL. Long texts come first, so that no part of one is left.
fn masked_values(settings: &UpstreamSettings) -> Vec<Secret> {
    let headers = settings.headers.iter().map(|(_, value)| value.expose());
    let credentials = headers.clone().filter_map(|value| Some(value.trim().split_once(' ')?.1.trim()));
    let query = settings.query.iter().map(|(_, value)| value.expose());
    let key = settings.key.iter().map(Secret::expose);
    let mut values: Vec<String> =
        key.chain(headers).chain(credentials).chain(query).map(str::to_owned).collect();
    values.extend(values.clone().iter().map(|value| percent_encode(value)));
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values.dedup();
    values.into_iter().map(Secret::new).collect()
}

fn parse_base_url(url: &str) -> Result<Uri, UpstreamError> {
    let base = parse_url(url).map_err(UpstreamError::BaseUrl)?;
    if base.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(UpstreamError::BaseUrl("must not contain a user or password: use http_headers"));
    }
    if base.query().is_some() {
        return Err(UpstreamError::BaseUrl("must not contain parameters: use query_params"));
    }
    Ok(base)
}

fn parse_url(url: &str) -> Result<Uri, &'static str> {
    let url: Uri = url.trim().parse().map_err(|_| "is not a valid URL")?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    if is_http { Ok(url) } else { Err("must begin with http:// or https://") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(base_url: &str) -> Result<Upstream, UpstreamError> {
        Upstream::new(&UpstreamSettings { base_url: base_url.to_owned(), ..UpstreamSettings::default() })
    }

    #[test]
    fn endpoints_are_below_the_base_url() {
        for (base_url, target) in [
            ("http://h/v1", "http://h/v1/responses"),
            ("http://h:8080/a/v1/", "http://h:8080/a/v1/responses"),
            ("http://h", "http://h/responses"),
            ("http://[::1]:9/v1", "http://[::1]:9/v1/responses"),
        ] {
            let upstream = upstream(base_url).unwrap();
            assert_eq!(upstream.target(Endpoint::Responses, Some("a=b")), target);
        }
        let target = upstream("http://h/v1").unwrap().target(Endpoint::Models, Some("client_version=1"));
        assert_eq!(target, "http://h/v1/models?client_version=1");
    }

    #[test]
    fn a_proxy_for_plain_http_gets_its_password_and_others_are_refused() {
        let through = |proxy: &str, base_url: &str| {
            let settings = UpstreamSettings { base_url: base_url.to_owned(), ..UpstreamSettings::default() };
            Upstream::through_proxy(&settings, Matcher::builder().all(proxy).build())
        };
        let auth = |proxy: &str, base_url: &str| {
            let upstream = through(proxy, base_url).unwrap();
            upstream.headers.get(PROXY_AUTHORIZATION).map(|auth| auth.to_str().unwrap().to_owned())
        };
        assert_eq!(auth("http://user:word@proxy:1", "http://h/v1").as_deref(), Some("Basic dXNlcjp3b3Jk"));
        assert_eq!(auth("http://user:word@proxy:1", "http://127.0.0.1:1/v1"), None);
        assert_eq!(auth("http://proxy:1", "http://h/v1"), None);
        for scheme in ["socks5", "socks5h", "https"] {
            let error = through(&format!("{scheme}://user:word@proxy:1"), "https://h/v1").unwrap_err();
            assert_eq!(error, UpstreamError::Proxy(scheme.to_owned()));
            assert!(through(&format!("{scheme}://proxy:1"), "http://localhost:1/v1").is_ok());
        }
    }

    #[test]
    fn all_keys_of_the_settings_are_masked_in_each_form() {
        let settings = UpstreamSettings {
            base_url: "http://h/v1".to_owned(),
            headers: vec![("authorization".to_owned(), Secret::new("Bearer header/secret"))],
            query: vec![("key".to_owned(), Secret::new("query+secret"))],
            ..UpstreamSettings::default()
        };
        assert!(!format!("{settings:?}").contains("query+secret"), "{settings:?}");
        let upstream = Upstream::new(&settings).unwrap();
        for text in
            ["Bearer header/secret", "header/secret", "header%2Fsecret", "query+secret", "query%2Bsecret"]
        {
            assert_eq!(upstream.mask(&format!("bad: {text}!")), "bad: [secret]!");
        }
    }

    #[test]
    fn a_server_that_can_t_be_used_is_refused_without_its_values() {
        for url in ["", "h", "/v1", "ftp://h/v1", "http://", "http://u:hidden@h/v1", "http://h/v1?key=hidden"]
        {
            let error = upstream(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hidden"), "{url}: {error}");
        }
        let with = |key: Option<&str>, header: Option<(&str, &str)>| {
            let headers = header.map(|(name, value)| (name.to_owned(), Secret::new(value)));
            let base_url = "http://h/v1".to_owned();
            let (key, headers) = (key.map(Secret::new), headers.into_iter().collect());
            Upstream::new(&UpstreamSettings { base_url, key, headers, ..UpstreamSettings::default() })
                .unwrap_err()
        };
        assert_eq!(with(Some("hidden\n"), None), UpstreamError::Key);
        assert_eq!(with(None, Some(("a b", "hidden"))), UpstreamError::Header("a b".to_owned()));
        assert_eq!(with(None, Some(("a", "hidden\r\n"))), UpstreamError::Header("a".to_owned()));
    }
}
