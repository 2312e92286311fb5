use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use futures_util::FutureExt;
use hyper_util::client::proxy::matcher::Matcher;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::client::new_client;
use super::super::test_support::{ScriptedServer, http_answer};
use super::*;

const EXPIRED: i64 = 1_000_000;
const VALID: i64 = 4_000_000_000;

fn access_token(number: usize, expires_at: i64) -> String {
    let claims = json!({"exp": expires_at, "number": number}).to_string();
    format!("e30.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims))
}

/// A login in a folder of its own, and a token endpoint.
struct Fixture {
    endpoint: ScriptedServer,
    login: Arc<Login>,
    folder: tempfile::TempDir,
}

impl Fixture {
    /// Creates a login that expires at this second, with the refresh token `refresh-0`. The endpoint answers each
    /// request with the next tokens, or with an error of this code.
    async fn new(expires_at: i64, error: Option<&'static str>) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let endpoint = ScriptedServer::with(move |mut stream| {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                let tokens = json!({
                    "access_token": access_token(number, VALID),
                    "refresh_token": format!("refresh-{number}"),
                });
                let answer = match error {
                    None => http_answer("200 OK", "application/json", &tokens.to_string()),
                    Some(code) => {
                        let body = json!({"error": {"code": code}}).to_string();
                        http_answer("400 Bad Request", "application/json", &body)
                    }
                };
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let url: Uri = endpoint.base_url.parse().unwrap();
        let auth_file = folder.path().join("auth.json");
        let settings = LoginSettings { auth_file, refresh_url: endpoint.base_url.clone() };
        let client = new_client(None, Matcher::builder().build());
        let login = Login { store_time: STORE_TIME / 50, ..Login::new(&settings, url, client) };
        let login = Arc::new(login);
        let fixture = Self { endpoint, login, folder };
        fixture.write(&access_token(0, expires_at), "refresh-0");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, access_token: &str, refresh_token: &str) {
        let tokens =
            json!({"access_token": access_token, "refresh_token": refresh_token, "account_id": "account"});
        std::fs::write(self.path("auth.json"), json!({ "tokens": tokens }).to_string()).unwrap();
    }

    fn stored_refresh_token(&self) -> Option<Secret> {
        let bytes = std::fs::read(self.path("auth.json")).unwrap();
        ChatGptLogin::from_auth_file(&bytes).unwrap().refresh_token
    }
}

fn is_number(login: &ChatGptLogin, number: usize) -> bool {
    login.access_token == Secret::new(access_token(number, VALID))
}

#[tokio::test]
async fn many_requests_at_once_refresh_a_login_once() {
    let fixture = Fixture::new(EXPIRED, None).await;
    let requests = (0..20).map(|_| fixture.login.current_login(None));
    for login in futures_util::future::join_all(requests).await {
        assert!(is_number(&login.unwrap(), 1));
    }
    // All of them are rejected, too.
    let rejected = || Some(Secret::new(access_token(1, VALID)));
    let requests = (0..20).map(|_| fixture.login.current_login(rejected()));
    for login in futures_util::future::join_all(requests).await {
        assert!(is_number(&login.unwrap(), 2));
    }
    let [expired, rejected] = &fixture.endpoint.requests()[..] else { panic!("more than two refreshes") };
    assert!(expired.contains("\"refresh_token\":\"refresh-0\"") && expired.contains("proactive_expiry"));
    assert!(
        rejected.contains("\"refresh_token\":\"refresh-1\"") && rejected.contains("unauthorized_recovery")
    );
    assert_eq!(fixture.stored_refresh_token(), Some(Secret::new("refresh-2")));
    let mode = std::fs::metadata(fixture.path("auth.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let masked = fixture.login.secrets();
    for token in ["refresh-0", "refresh-2"] {
        assert!(masked.contains(&Secret::new(token)), "{token}");
    }
}

#[tokio::test]
async fn a_newer_login_of_the_user_is_taken_as_it_is() {
    let fixture = Fixture::new(EXPIRED, None).await;
    fixture.write(&access_token(7, VALID), "refresh-user");
    assert!(is_number(&fixture.login.current_login(None).await.unwrap(), 7));
    assert_eq!(fixture.endpoint.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_login_written_during_a_refresh_is_kept() {
    let fixture = Fixture::new(EXPIRED, None).await;
    // Codex holds its lock while it stores a new login.
    let lock = std::fs::File::create(fixture.path("auth.lock")).unwrap();
    lock.lock().unwrap();
    let login = Arc::clone(&fixture.login);
    let request = tokio::spawn(async move { login.current_login(None).await });
    while fixture.endpoint.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    fixture.write(&access_token(7, VALID), "refresh-user");
    drop(lock);
    assert!(is_number(&request.await.unwrap().unwrap(), 7));
    assert_eq!(fixture.stored_refresh_token(), Some(Secret::new("refresh-user")));
}

#[tokio::test]
async fn a_request_that_is_dropped_does_not_end_the_refresh() {
    let fixture = Fixture::new(EXPIRED, None).await;
    let login = Arc::clone(&fixture.login);
    let request = tokio::spawn(async move { login.current_login(None).await });
    while fixture.endpoint.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    request.abort();
    assert!(is_number(&fixture.login.current_login(None).await.unwrap(), 1));
    assert_eq!(fixture.endpoint.requests().len(), 1);
}

#[tokio::test]
async fn a_refused_login_is_not_sent_again_until_there_is_another_one() {
    let fixture = Fixture::new(EXPIRED, Some("refresh_token_reused")).await;
    let expected = LoginError::Invalid("refresh token reused".to_owned());
    for _ in 0..2 {
        assert_eq!(fixture.login.current_login(None).await, Err(expected.clone()));
    }
    assert_eq!(fixture.endpoint.requests().len(), 1);
    let problem = fixture.login.problem().unwrap();
    assert!(problem.contains("(refresh token reused): run `codex login`"), "{problem}");
    // A request that uses the login does not hide the problem.
    let state = fixture.login.state.lock().await;
    assert_eq!(fixture.login.problem(), Some(problem));
    drop(state);
    fixture.write(&access_token(7, VALID), "refresh-user");
    assert_eq!(fixture.login.problem(), None);
    assert!(is_number(&fixture.login.current_login(None).await.unwrap(), 7));
}

#[tokio::test]
async fn a_login_that_follows_a_refusal_is_taken_and_no_refusal_is_reported() {
    let mut fixture = Fixture::new(EXPIRED, Some("refresh_token_reused")).await;
    Arc::get_mut(&mut fixture.login).unwrap().store_time = Duration::from_secs(600);
    let login = Arc::clone(&fixture.login);
    let request = tokio::spawn(async move { login.current_login(None).await });
    while fixture.endpoint.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    std::fs::write(fixture.path("auth.json"), "{").unwrap();
    fixture.write(&access_token(7, VALID), "refresh-codex");
    assert!(is_number(&request.await.unwrap().unwrap(), 7));
    assert_eq!((fixture.login.problem(), fixture.endpoint.requests().len()), (None, 1));
}

#[tokio::test]
async fn only_logins_that_others_have_stored_count_as_replacements() {
    let fixture = Fixture::new(EXPIRED, None).await;
    assert_eq!((fixture.login.problem(), fixture.login.replacements()), (None, 0));
    assert!(is_number(&fixture.login.current_login(None).await.unwrap(), 1));
    assert_eq!((fixture.login.problem(), fixture.login.replacements()), (None, 0));
    fixture.write(&access_token(7, VALID), "refresh-user");
    assert_eq!((fixture.login.problem(), fixture.login.replacements()), (None, 1));
}

#[tokio::test]
async fn an_endpoint_that_is_out_of_order_matters_only_after_the_end_of_the_token() {
    let soon = (time::now() + EXPIRY_MARGIN / 2).as_second();
    for (expires_at, expected) in [(soon, true), (EXPIRED, false)] {
        let fixture = Fixture::new(expires_at, Some("temporarily_unavailable")).await;
        let access = fixture.login.current_login(None).await;
        assert_eq!(access.is_ok(), expected, "{access:?}");
        assert_eq!(fixture.login.problem(), None);
    }
}

#[tokio::test]
async fn tokens_that_can_t_be_stored_are_used_from_memory() {
    let fixture = Fixture::new(EXPIRED, None).await;
    std::fs::create_dir(fixture.path("auth.lock")).unwrap();
    for _ in 0..2 {
        assert!(is_number(&fixture.login.current_login(None).await.unwrap(), 1));
    }
    std::fs::remove_dir(fixture.path("auth.lock")).unwrap();
    let rejected = Some(Secret::new(access_token(1, VALID)));
    assert!(is_number(&fixture.login.current_login(rejected).await.unwrap(), 2));
    assert_eq!(fixture.stored_refresh_token(), Some(Secret::new("refresh-2")));
}

#[tokio::test]
async fn a_server_that_rejects_every_token_gets_one_refresh_in_a_minute() {
    let fixture = Fixture::new(VALID, None).await;
    let rejected = |number| Some(Secret::new(access_token(number, VALID)));
    assert!(is_number(&fixture.login.current_login(rejected(0)).await.unwrap(), 1));
    assert!(is_number(&fixture.login.current_login(rejected(1)).await.unwrap(), 1));
    assert_eq!(fixture.endpoint.requests().len(), 1);
    // A login that the user makes meanwhile has a refresh of its own.
    fixture.write(&access_token(7, VALID), "refresh-user");
    assert!(is_number(&fixture.login.current_login(rejected(7)).await.unwrap(), 2));
}

#[tokio::test]
async fn a_hold_waits_for_the_refresh_under_way_and_lets_no_other_begin() {
    let fixture = Fixture::new(EXPIRED, None).await;
    let login = Arc::clone(&fixture.login);
    let request = tokio::spawn(async move { login.current_login(None).await });
    while fixture.endpoint.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    request.abort();
    let hold = fixture.login.hold().await;
    assert_eq!(fixture.stored_refresh_token(), Some(Secret::new("refresh-1")));
    assert!(fixture.login.current_login(None).now_or_never().is_none());
    drop(hold);
    assert!(is_number(&fixture.login.current_login(None).await.unwrap(), 1));
}

#[tokio::test]
async fn a_login_behind_a_link_is_stored_where_the_link_leads() {
    let fixture = Fixture::new(EXPIRED, None).await;
    let other = tempfile::tempdir().unwrap();
    let target = other.path().join("login.json");
    std::fs::rename(fixture.path("auth.json"), &target).unwrap();
    std::os::unix::fs::symlink(&target, fixture.path("auth.json")).unwrap();
    assert!(is_number(&fixture.login.current_login(None).await.unwrap(), 1));
    assert!(fixture.path("auth.json").is_symlink());
    assert_eq!(fixture.stored_refresh_token(), Some(Secret::new("refresh-1")));
    for lock in ["auth.relay.lock", "auth.lock"] {
        assert!(other.path().join(lock).exists(), "{lock}");
    }
    assert!(fixture.path("auth.lock").exists(), "Codex takes the lock beside its own name of the file");
}
