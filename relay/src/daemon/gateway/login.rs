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

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::Uri;
use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};

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
        Self { file, refresh_url, client, state: Arc::default(), secrets: RwLock::default() }
    }

    /// Returns the tokens that must not reach a worker.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the reason why no request can use the login; `None` if it is not known.
    pub(super) fn problem(&self) -> Option<String> {
        // A locked state is being refreshed.
        let mut state = self.state.try_lock().ok()?;
        let read = self.read_file(&mut state);
        read.and_then(|_| refused(&state)).err().map(|e| e.to_string())
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
            Err(RefreshError::Invalid(reason)) => self.handle_refusal(&mut state, &login, reason),
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
            Ok(Stored::Refreshed(login) | Stored::Superseded(login)) => {
                self.mask_tokens(&login);
                state.set(login.clone());
                Ok(login)
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

    /// Handles a refusal. Codex may have used the same refresh token, and stored the next one, just before.
    fn handle_refusal(
        &self,
        state: &mut LoginState,
        refused_login: &ChatGptLogin,
        reason: String,
    ) -> Result<ChatGptLogin, LoginError> {
        let login = self.read_file(state)?;
        if login != *refused_login {
            return Ok(login);
        }
        tracing::warn!("the ChatGPT login can't be refreshed: {reason}");
        state.refusal = Some(reason.clone());
        Err(LoginError::Invalid(reason))
    }

    /// Reads the file, and returns the login of the requests.
    fn read_file(&self, state: &mut LoginState) -> Result<ChatGptLogin, LoginError> {
        let read = self.file.read().map_err(LoginError::Failed)?;
        match &state.current {
            Some(current) if state.stored.as_ref() == Some(&read) => Ok(current.clone()),
            _ => {
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
