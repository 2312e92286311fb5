//! `ChatGPT` login of the user's Codex: the tokens in its `auth.json` (pure). No type shows a token.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::secret::Secret;

/// Claim of a token with the facts about the account.
const ACCOUNT_CLAIM: &str = "https://api.openai.com/auth";

/// Content of `auth.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthFile {
    #[serde(rename = "OPENAI_API_KEY")]
    key: Option<String>,
    #[serde(rename = "auth_mode")]
    mode: Option<String>,
    tokens: Option<Tokens>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens {
    id_token: String,
    access_token: String,
    refresh_token: String,
    account_id: Option<String>,
}

impl AuthFile {
    /// Parses the file. A file that is not valid has nothing.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Returns the API key.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref().filter(|key| !key.trim().is_empty())
    }

    /// Returns true if Codex uses an account of `ChatGPT`. Without a mode, a key precedes tokens.
    pub(super) fn uses_chatgpt(&self) -> bool {
        match &self.mode {
            Some(mode) => mode.starts_with("chatgpt"),
            None => self.key().is_none() && self.tokens.is_some(),
        }
    }
}

/// A `ChatGPT` login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatGptLogin {
    /// Token of each request.
    pub access_token: Secret,
    /// Token for the next access token, which can be used once.
    pub refresh_token: Option<Secret>,
    /// Id of the account that pays.
    pub account_id: Option<String>,
    /// True for an account of the US government, whose requests have a header of their own.
    pub is_fedramp: bool,
    /// End of the access token, if it says when.
    expires_at: Option<Timestamp>,
}

impl ChatGptLogin {
    /// Reads the login from the content of `auth.json`; `None` if Codex is not logged in with `ChatGPT`.
    pub fn from_auth_file(bytes: &[u8]) -> Option<Self> {
        let auth = AuthFile::parse(bytes);
        let tokens = auth.uses_chatgpt().then_some(auth.tokens).flatten()?;
        let claims = claims(&tokens.id_token);
        let account = &claims[ACCOUNT_CLAIM];
        let account_id =
            tokens.account_id.or_else(|| Some(account["chatgpt_account_id"].as_str()?.to_owned()));
        Some(Self {
            expires_at: expiry(&tokens.access_token),
            is_fedramp: account["chatgpt_account_is_fedramp"].as_bool().unwrap_or_default(),
            access_token: non_empty(tokens.access_token)?,
            refresh_token: non_empty(tokens.refresh_token),
            account_id,
        })
    }

    /// Returns true if the access token is not valid after `instant`.
    pub fn expires_before(&self, instant: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= instant)
    }

    /// Returns all values that must not be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.access_token).chain(&self.refresh_token)
    }
}

/// Answer of the token endpoint. A token that is missing stays the same.
#[derive(Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names in the answer")]
pub struct RefreshedTokens {
    id_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

impl RefreshedTokens {
    /// Parses the answer; `None` if it has no access token.
    pub fn parse(answer: &[u8]) -> Option<Self> {
        serde_json::from_slice(answer).ok().filter(|tokens: &Self| tokens.access_token.is_some())
    }

    /// Returns a login with these tokens.
    pub fn apply_to(&self, login: &ChatGptLogin) -> ChatGptLogin {
        let access_token = self.access_token.clone().map_or_else(|| login.access_token.clone(), Secret::new);
        let refresh_token = self.refresh_token.clone().map(Secret::new);
        ChatGptLogin {
            expires_at: expiry(access_token.expose()),
            access_token,
            refresh_token: refresh_token.or_else(|| login.refresh_token.clone()),
            ..login.clone()
        }
    }

    /// Returns the content of `auth.json` with these tokens; `None` if it is no valid file. Everything else stays.
    pub fn update_auth_file(&self, bytes: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        let mut auth: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        let tokens = auth.get_mut("tokens")?.as_object_mut()?;
        for (name, token) in [
            ("id_token", &self.id_token),
            ("access_token", &self.access_token),
            ("refresh_token", &self.refresh_token),
        ] {
            if let Some(token) = token {
                tokens.insert(name.to_owned(), json!(token));
            }
        }
        auth.insert("last_refresh".to_owned(), json!(now.to_string()));
        serde_json::to_vec_pretty(&auth).ok()
    }
}

fn non_empty(token: String) -> Option<Secret> {
    (!token.is_empty()).then(|| Secret::new(token))
}

/// Returns the claims of a JSON web token, which only its server can verify; null for a token of another kind.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
}

fn expiry(token: &str) -> Option<Timestamp> {
    let seconds = claims(token)["exp"].as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "a float is cast to the nearest integer")]
    Timestamp::from_second(seconds as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn auth_file(mode: Option<&str>, key: Option<&str>, access_token: &str) -> Vec<u8> {
        let id_token = token(&json!({ ACCOUNT_CLAIM: {"chatgpt_account_id": "account-of-token"} }));
        let tokens =
            json!({"id_token": id_token, "access_token": access_token, "refresh_token": "refresh-one"});
        let auth = json!({"auth_mode": mode, "OPENAI_API_KEY": key, "tokens": tokens, "other": 1});
        auth.to_string().into_bytes()
    }

    #[test]
    fn a_login_is_read_as_codex_reads_it() {
        let access = token(&json!({"exp": 1000.5}));
        for (mode, key, is_login) in [
            (None, None, true),
            (None, Some(""), true),
            (None, Some("sk-1"), false),
            (Some("chatgpt"), Some("sk-1"), true),
            (Some("apikey"), None, false),
        ] {
            let login = ChatGptLogin::from_auth_file(&auth_file(mode, key, &access));
            assert_eq!(login.is_some(), is_login, "{mode:?} {key:?}");
        }
        let login = ChatGptLogin::from_auth_file(&auth_file(None, None, &access)).unwrap();
        assert_eq!(login.account_id.as_deref(), Some("account-of-token"));
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(login.expires_before(at(1000)) && !login.expires_before(at(999)));
        assert!(!format!("{login:?}").contains("refresh-one"), "{login:?}");
        for broken in ["", "x", "a.b.c", "e30.e30.", "e30.bnVsbA.s"] {
            let login = ChatGptLogin::from_auth_file(&auth_file(None, None, broken));
            assert!(login.is_none_or(|login| !login.expires_before(Timestamp::MAX)), "{broken}");
        }
    }

    #[test]
    fn refreshed_tokens_replace_the_old_ones_and_nothing_else() {
        let (old, new) = (token(&json!({"exp": 1})), token(&json!({"exp": 2})));
        let answer = json!({"access_token": new, "refresh_token": "refresh-two"}).to_string();
        let tokens = RefreshedTokens::parse(answer.as_bytes()).unwrap();
        let bytes = tokens.update_auth_file(&auth_file(None, None, &old), Timestamp::UNIX_EPOCH).unwrap();
        let login = ChatGptLogin::from_auth_file(&bytes).unwrap();
        assert_eq!(
            (login.access_token, login.refresh_token),
            (Secret::new(new), non_empty("refresh-two".into()))
        );
        assert_eq!(login.account_id.as_deref(), Some("account-of-token"));
        let auth: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&auth["other"], &auth["last_refresh"]), (&json!(1), &json!("1970-01-01T00:00:00Z")));
        assert!(RefreshedTokens::parse(b"{\"refresh_token\":\"r\"}").is_none());
        assert!(tokens.update_auth_file(b"{}", Timestamp::UNIX_EPOCH).is_none());
    }
}
