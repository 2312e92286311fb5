//! `ChatGPT` login of the user, which relays alone refresh for all jobs.
//!
//! ```text
//!  request ─► auth.json ─► access token is about to expire, or was rejected? ─no─► request with the token
//!                             │ yes: one task; all other requests wait for it
//!                             ▼
//!              lock of all relays ─► auth.json again ─► token endpoint ─► auth.json, under Codex's lock
//! ```
//!
//! A login in `auth.json` that is not the known one takes its place: the user, Codex or another relay has made it. The
//! task is not part of a request, because a worker that closes its connection must not end it between the answer of
//! the endpoint and the storing of the tokens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::Uri;
use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::client::UpstreamClient;
use super::login_file::{LoginFile, Stored};
use super::token_refresh::{self, RefreshError, RefreshReason};
use crate::model_server::{ChatGptLogin, LoginSettings, RefreshedTokens, Secret};
use crate::time;

/// Time before its end at which an access token is not used any more. A request is authorized within seconds.
const EXPIRY_MARGIN: Duration = Duration::from_secs(120);
/// Minimum time between two refreshes of tokens that the server rejects before their end. A server that rejects every token
/// must not use up refresh tokens.
const MIN_REJECTION_PAUSE: Duration = Duration::from_secs(60);
/// Number of tokens that are masked: those of the current login and of the ones before it, which answers that are still
/// under way may contain.
const MAX_MASKED: usize = 12;

/// Time in which another login may follow a refusal: Codex stores its tokens shortly after it has used up the refresh
/// token of both.
const STORE_TIME: Duration = Duration::from_secs(3);
/// Interval between two readings of the file meanwhile.
const REREAD_INTERVAL: Duration = Duration::from_millis(100);

/// Reason why a request has no login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LoginError {
    /// The login is not valid any more.
    #[error("the ChatGPT login of codex is no longer valid ({0}): run `codex login` on the relay's machine")]
    Invalid(String),
    /// The login can't be refreshed at the moment.
    #[error("the ChatGPT login of codex can't be refreshed: {0}")]
    Failed(String),
    /// The server has rejected the login of a request that can't be repeated here.
    #[error("the ChatGPT login of codex was refreshed meanwhile: send the request again")]
    Refreshed,
}

/// The user's login.
#[derive(Debug)]
pub(super) struct Login {
    file: LoginFile,
    refresh_url: Uri,
    client: UpstreamClient,
    /// Locked for a whole refresh.
    state: Arc<Mutex<LoginState>>,
    /// Tokens that must not reach a worker, the newest first.
    secrets: RwLock<Vec<Secret>>,
    /// Number of times that the user, Codex or another relay has replaced the login in the file.
    replacements: AtomicU64,
    /// Newest known reason why no request can use the login.
    known_problem: RwLock<Option<String>>,
    /// Time in which another login may follow a refusal.
    store_time: Duration,
}

/// Login that no request refreshes while this value exists.
#[derive(Debug)]
pub(in crate::daemon) struct LoginHold {
    _state: OwnedMutexGuard<LoginState>,
}

#[derive(Debug, Default)]
struct LoginState {
    /// Login in the file, as it was read or written last.
    stored: Option<ChatGptLogin>,
    /// Login of the requests. It differs from the stored one after tokens could not be stored.
    current: Option<ChatGptLogin>,
    /// Reason why the endpoint refuses the current login.
    refusal: Option<String>,
    /// Time of the refresh, if the server had rejected the token before the current one.
    rejected_at: Option<Timestamp>,
}

impl LoginState {
    fn set(&mut self, login: ChatGptLogin) {
        *self = Self { stored: Some(login.clone()), current: Some(login), refusal: None, rejected_at: None };
    }

    /// Returns the reason to refresh a login, if there is one.
    fn refresh_reason(
        &self,
        login: &ChatGptLogin,
        rejected: Option<&Secret>,
        now: Timestamp,
    ) -> Option<RefreshReason> {
        let is_ending = login.expires_before(now + EXPIRY_MARGIN);
        let is_early = self.rejected_at.is_some_and(|at| now < at + MIN_REJECTION_PAUSE);
        if rejected == Some(&login.access_token) && (is_ending || !is_early) {
            return Some(RefreshReason::Rejected);
        }
        is_ending.then_some(RefreshReason::Expiry)
    }
}

impl Login {
    pub(super) fn new(settings: &LoginSettings, refresh_url: Uri, client: UpstreamClient) -> Self {
        let file = LoginFile::new(settings.auth_file.clone());
        Self {
            file,
            refresh_url,
            client,
            state: Arc::default(),
            secrets: RwLock::default(),
            replacements: AtomicU64::default(),
            known_problem: RwLock::default(),
            store_time: STORE_TIME,
        }
    }

    /// Returns the tokens that must not reach a worker.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the reason why no request can use the login, as far as it is known.
    pub(super) fn problem(&self) -> Option<String> {
        // While a request uses the state, the newest known reason counts.
        let Ok(mut state) = self.state.try_lock() else {
            return self.known_problem.read().unwrap_or_else(PoisonError::into_inner).clone();
        };
        let read = self.read_file(&mut state);
        let problem = read.and_then(|_| refused(&state)).err().map(|e| e.to_string());
        self.known_problem.write().unwrap_or_else(PoisonError::into_inner).clone_from(&problem);
        problem
    }

    /// Returns the number of times that the user, Codex or another relay has replaced the login, as far as it was read.
    pub(super) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Acquire)
    }

    /// Waits for a refresh that is under way, and keeps others from beginning.
    pub(super) async fn hold(&self) -> LoginHold {
        LoginHold { _state: Arc::clone(&self.state).lock_owned().await }
    }

    /// Returns the login for a request, refreshed if it has to be. `rejected` is an access token that the model's server
    /// has not accepted.
    pub(super) async fn current_login(
        self: &Arc<Self>,
        rejected: Option<Secret>,
    ) -> Result<ChatGptLogin, LoginError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let login = self.read_file(&mut state)?;
        if state.refresh_reason(&login, rejected.as_ref(), time::now()).is_none() {
            return Ok(login);
        }
        let this = Arc::clone(self);
        let refresh = tokio::spawn(async move { this.refresh(state, rejected).await });
        refresh.await.unwrap_or_else(|e| Err(LoginError::Failed(e.to_string())))
    }

    /// Refreshes the login, unless another relay or Codex has done it meanwhile.
    async fn refresh(
        &self,
        mut state: OwnedMutexGuard<LoginState>,
        rejected: Option<Secret>,
    ) -> Result<ChatGptLogin, LoginError> {
        let _lock = self.file.lock_refresh().await.map_err(LoginError::Failed)?;
        let login = self.read_file(&mut state)?;
        let reason = state.refresh_reason(&login, rejected.as_ref(), time::now());
        let Some(reason) = reason else { return Ok(login) };
        refused(&state)?;
        let answer = match &login.refresh_token {
            Some(token) => {
                token_refresh::request_tokens(&self.client, &self.refresh_url, token, reason).await
            }
            None => Err(RefreshError::Invalid("it has no refresh token".to_owned())),
        };
        match answer {
            Ok(tokens) => {
                let adopted = self.adopt(&mut state, &login, &tokens).await;
                state.rejected_at = matches!(reason, RefreshReason::Rejected).then(time::now);
                adopted
            }
            Err(RefreshError::Invalid(reason)) => self.handle_refusal(&mut state, &login, reason).await,
            Err(RefreshError::NoAnswer(_)) if rejected.is_none() && !login.expires_before(time::now()) => {
                Ok(login)
            }
            Err(RefreshError::NoAnswer(reason)) => {
                let host = self.refresh_url.host().unwrap_or_default();
                Err(LoginError::Failed(format!("{host}: {reason}")))
            }
        }
    }

    /// Stores refreshed tokens, and uses them also if they can't be stored.
    async fn adopt(
        &self,
        state: &mut LoginState,
        login: &ChatGptLogin,
        tokens: &RefreshedTokens,
    ) -> Result<ChatGptLogin, LoginError> {
        let replaced = state.stored.as_ref().unwrap_or(login);
        match self.file.store(replaced, tokens).await {
            Ok(stored) => {
                let (Stored::Refreshed(login) | Stored::Superseded(login)) = &stored;
                if matches!(stored, Stored::Superseded(_)) {
                    self.replacements.fetch_add(1, Ordering::AcqRel);
                }
                self.mask_tokens(login);
                state.set(login.clone());
                Ok(login.clone())
            }
            Err(reason) => {
                tracing::error!("the refreshed ChatGPT login is in memory only: {reason}");
                let login = tokens.apply_to(login);
                self.mask_tokens(&login);
                state.current = Some(login.clone());
                Ok(login)
            }
        }
    }

    /// Handles a refusal. Codex may have used the same refresh token, and stores the next one just then.
    async fn handle_refusal(
        &self,
        state: &mut LoginState,
        refused_login: &ChatGptLogin,
        reason: String,
    ) -> Result<ChatGptLogin, LoginError> {
        if let Some(login) = self.await_other_login(state, refused_login).await? {
            return Ok(login);
        }
        tracing::warn!("the ChatGPT login can't be refreshed: {reason}");
        state.refusal = Some(reason.clone());
        Err(LoginError::Invalid(reason))
    }

    /// Waits until the file has another login. Returns `None` if it still has this one after some time.
    async fn await_other_login(
        &self,
        state: &mut LoginState,
        login: &ChatGptLogin,
    ) -> Result<Option<ChatGptLogin>, LoginError> {
        let end = Instant::now() + self.store_time;
        let mut readings = tokio::time::interval(REREAD_INTERVAL);
        loop {
            readings.tick().await;
            let read = self.read_file(state);
            match read {
                Ok(other) if other != *login => return Ok(Some(other)),
                // A file that can't be read may be half written.
                _ if Instant::now() < end => {}
                read => return read.map(|_| None),
            }
        }
    }

    /// Reads the file, and returns the login of the requests.
    fn read_file(&self, state: &mut LoginState) -> Result<ChatGptLogin, LoginError> {
        let read = self.file.read().map_err(LoginError::Failed)?;
        match &state.current {
            Some(current) if state.stored.as_ref() == Some(&read) => Ok(current.clone()),
            known => {
                if known.is_some() {
                    self.replacements.fetch_add(1, Ordering::AcqRel);
                }
                self.mask_tokens(&read);
                state.set(read.clone());
                Ok(read)
            }
        }
    }

    fn mask_tokens(&self, login: &ChatGptLogin) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        for secret in login.secrets() {
            if !secrets.contains(secret) {
                secrets.insert(0, secret.clone());
            }
        }
        secrets.truncate(MAX_MASKED);
    }
}

fn refused(state: &LoginState) -> Result<(), LoginError> {
    state.refusal.as_ref().map_or(Ok(()), |reason| Err(LoginError::Invalid(reason.clone())))
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
