//! Token endpoint of a scripted `ChatGPT` login. Each refresh token can be used once, as with the real one, which no test
//! uses.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};

use super::server::Shared;

/// Account of the login.
pub const ACCOUNT: &str = "account-of-the-user";
/// Text in every token, by which a test finds it.
pub const TOKEN_MARK: &str = "canary-login";
/// Time for which an access token is valid, in seconds.
const VALID_SECONDS: u64 = 3600;

/// The tokens of a login: the newest ones, by their number.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// Number of the newest tokens; `None` if requests need no login.
    number: Option<usize>,
    /// Refresh tokens of all requests.
    presented: Vec<String>,
    is_revoked: bool,
}

impl Login {
    /// Begins a login. Returns the content of its `auth.json`, whose access token has expired.
    pub(super) fn begin(&mut self) -> String {
        self.number = Some(0);
        let tokens = json!({
            "id_token": access_token(0, 1),
            "access_token": access_token(0, 1),
            "refresh_token": refresh_token(0),
            "account_id": ACCOUNT,
        });
        json!({"OPENAI_API_KEY": null, "tokens": tokens}).to_string()
    }

    pub(super) fn revoke(&mut self) {
        self.is_revoked = true;
    }

    pub(super) fn presented(&self) -> Vec<String> {
        self.presented.clone()
    }

    /// Returns true if a request with this header may use the model.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let Some(number) = self.number else { return true };
        let mark = mark(number);
        authorization.is_some_and(|header| header.starts_with("Bearer ") && header.ends_with(&mark))
    }

    /// Returns the next tokens for a refresh token.
    fn refresh(&mut self, presented: &str) -> Option<Value> {
        self.presented.push(presented.to_owned());
        let number = self.number.filter(|number| !self.is_revoked && presented == refresh_token(*number))?;
        let next = number + 1;
        self.number = Some(next);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let access = access_token(next, now + VALID_SECONDS);
        Some(json!({"id_token": access, "access_token": access, "refresh_token": refresh_token(next)}))
    }
}

/// Answers a request for new tokens.
pub(super) async fn refresh(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    let presented = body["refresh_token"].as_str().unwrap_or_default();
    if let Some(tokens) = shared.login().refresh(presented) {
        return Json(tokens).into_response();
    }
    let error = json!({"error": {"code": "refresh_token_reused", "message": "log in again"}});
    (StatusCode::UNAUTHORIZED, Json(error)).into_response()
}

/// Returns the refresh token of a number.
pub fn refresh_token(number: usize) -> String {
    format!("refresh-{}", mark(number))
}

fn access_token(number: usize, expires_at: u64) -> String {
    let encode = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.{}", encode(json!({"alg": "none"})), encode(json!({"exp": expires_at})), mark(number))
}

fn mark(number: usize) -> String {
    format!("{TOKEN_MARK}-{number}")
}
