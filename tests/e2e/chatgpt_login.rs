//! A `ChatGPT` login of the user: relay refreshes it for all workers, none of which has it. The token endpoint is
//! scripted; the real one is not tried.

use std::os::unix::fs::PermissionsExt;

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs};
use relay_tests::scripted_model::login::{ACCOUNT, TOKEN_MARK, refresh_token};
use relay_tests::scripted_model::script::{Act, Fault, Script};
use relay_tests::scripted_model::{ReceivedRequest, ScriptedModel, Scripts, write_codex_home};

use crate::codex::launch;
use crate::model_gateway::edit_codex_config;

/// Creates a site whose user is logged in with `ChatGPT`, with an access token that has expired, and starts its relay.
fn site(engine: Engine, platform: &str, scripts: impl IntoIterator<Item = Script>) -> (ScriptedModel, Site) {
    let site = Site::new(engine);
    let model = ScriptedModel::start_on_thread(scripts.into_iter().collect::<Scripts>()).unwrap();
    write_codex_home(site.codex_home(), &model.base_url()).unwrap();
    edit_codex_config(&site, "requires_openai_auth = false", "requires_openai_auth = true");
    site.write_codex("auth.json", &model.begin_login());
    let codex = if engine == Engine::Local {
        format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", programs::codex().display())
    } else {
        String::new()
    };
    site.configure(&format!("{platform}{codex}[model]\ngateway = true\n"));
    let mut up = site.command(&["up"]);
    let output = up.env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", model.refresh_url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (model, site)
}

/// Returns the number of the access token and the account of a request.
fn login_of(request: &ReceivedRequest) -> (Option<&str>, Option<&str>) {
    let number = request.authorization.as_deref().and_then(|header| header.rsplit_once('-'));
    (number.map(|(_, number)| number), request.account.as_deref())
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_box_uses_a_login_that_only_the_relay_has_and_refreshes() {
    let look = "cat /proc/*/environ ~/.codex/* 2>/dev/null | tr '\\0' '\\n' | grep -c 'canary-logi[n]'; \
                test -e ~/.codex/auth.json || echo no login";
    let rejection = Fault::HttpError { status: 401, body: serde_json::json!("the token is not valid") };
    let script = Script::new("looks").run(look).then(Act::Fault { fault: rejection, times: Some(1) });
    let (model, site) = site(Engine::Docker, "isolation = \"job\"\n", [script.say("Looked.")]);
    let job = launch(&site, "[script:looks] Look for a login.");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}\n{}", site.daemon_log());
    assert!(log.contains("\n    0\n    no login"), "{log}");

    assert_eq!(model.presented_refresh_tokens(), [refresh_token(0), refresh_token(1)]);
    let requests = model.requests();
    let logins: Vec<_> = requests.iter().map(login_of).collect();
    let account = Some(ACCOUNT);
    assert_eq!(logins, [(Some("1"), account), (Some("1"), account), (Some("2"), account)]);
    let auth_file = site.codex_home().join("auth.json");
    assert!(std::fs::read_to_string(&auth_file).unwrap().contains(&refresh_token(2)));
    assert_eq!(std::fs::metadata(auth_file).unwrap().permissions().mode() & 0o777, 0o600);
    let inputs: String = requests.iter().map(|request| request.body.to_string()).collect();
    for text in [&log, &site.daemon_log(), &inputs] {
        assert!(!text.contains(TOKEN_MARK), "{text}");
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn five_jobs_that_begin_with_an_expired_login_cause_one_refresh() {
    let (model, site) = site(Engine::Local, "max_jobs = 5\n", [Script::new("works").say("Done.")]);
    let jobs: Vec<String> = (0..5).map(|_| launch(&site, "[script:works] Work.")).collect();
    for job in &jobs {
        let record = site.ended(job);
        assert_eq!(outcome(&record), (State::Completed, None), "{}\n{}", site.log(job), site.daemon_log());
    }
    assert_eq!(model.presented_refresh_tokens(), [refresh_token(0)]);
    let requests = model.requests();
    let logins: Vec<_> = requests.iter().map(login_of).collect();
    assert_eq!(logins, [(Some("1"), Some(ACCOUNT)); 5]);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_login_that_can_t_be_refreshed_fails_the_job_and_says_what_to_run() {
    let (model, site) = site(Engine::Local, "", [Script::new("works").say("Done.")]);
    model.revoke_login();
    let record = site.ended(&launch(&site, "[script:works] Work."));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Auth)), "{}", site.daemon_log());
    let message = record.error.unwrap().message;
    assert!(message.contains("(refresh token reused): run `codex login`"), "{message}");
    assert_eq!((model.presented_refresh_tokens().len(), model.requests().len()), (1, 0));
}
