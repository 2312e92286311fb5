use super::*;

const KEY: &str = "sk-a-key-of-the-user";

/// Resolves settings with a few variables.
fn settings(config: &str, auth: &str, variables: &[(&str, &str)]) -> Result<UpstreamSettings, SettingsError> {
    resolve(config.as_bytes(), auth.as_bytes(), &|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

/// Returns the address and the key.
fn address_and_key(settings: &UpstreamSettings) -> (&str, Option<&str>) {
    (&settings.base_url, settings.key.as_ref().map(Secret::expose))
}

#[test]
fn the_key_of_openai_comes_from_a_variable_or_the_login() {
    let auth = format!("{{\"OPENAI_API_KEY\":\"{KEY}\",\"tokens\":null}}");
    for (config, auth, variables, url) in [
        ("", "", &[("CODEX_API_KEY", KEY), ("OPENAI_API_KEY", "sk-other")][..], OPENAI_URL),
        ("", "", &[("CODEX_API_KEY", " "), ("OPENAI_API_KEY", KEY)], OPENAI_URL),
        ("openai_base_url = \"http://h/v1\"", &*auth, &[], "http://h/v1"),
        ("[model_providers.openai]\nbase_url = \"http://not-this\"", &*auth, &[], OPENAI_URL),
    ] {
        let settings = settings(config, auth, variables).unwrap();
        assert_eq!(address_and_key(&settings), (url, Some(KEY)), "{config} {auth}");
    }
    let organization = [("CODEX_API_KEY", KEY), ("OPENAI_ORGANIZATION", "org")];
    let headers = settings("", "", &organization).unwrap().headers;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, value.expose())).collect();
    assert_eq!(headers, [("OpenAI-Organization", "org")]);
}

#[test]
fn a_chatgpt_login_is_used_where_codex_would_use_it() {
    let tokens = "{\"auth_mode\":\"chatgpt\",\"tokens\":{\"access_token\":\"t\"}}";
    let other = "{\"OPENAI_API_KEY\":\"sk-file\",\"tokens\":{\"access_token\":\"t\"}}";
    let login = |url: &str| {
        let (auth_file, refresh_url) = ("/h/.codex/auth.json".into(), url.to_owned());
        Some(LoginSettings { auth_file, refresh_url })
    };
    let home = ("HOME", "/h");
    let own =
        "model_provider = \"p\"\n[model_providers.p]\nbase_url = \"http://h\"\nrequires_openai_auth = true";
    let elsewhere = (REFRESH_URL_VARIABLE, "http://t");
    for (config, auth, variables, url, key, expected) in [
        ("", tokens, &[home, ("OPENAI_API_KEY", KEY)][..], CHATGPT_URL, None, login(REFRESH_URL)),
        ("openai_base_url = \"http://o\"", tokens, &[home, elsewhere], "http://o", None, login("http://t")),
        (own, tokens, &[home], "http://h", None, login(REFRESH_URL)),
        ("", tokens, &[home, ("CODEX_API_KEY", KEY)], OPENAI_URL, Some(KEY), None),
        ("", other, &[home], OPENAI_URL, Some("sk-file"), None),
    ] {
        let settings = settings(config, auth, variables).unwrap();
        assert_eq!((address_and_key(&settings), &settings.login), ((url, key), &expected), "{config} {auth}");
    }
}

#[test]
fn a_provider_of_the_user_has_its_own_key_headers_and_parameters() {
    let config = "model_provider = \"mine\"\n[model_providers.mine]\nname = \"Mine\"\nbase_url = \"https://h/openai\"\n\
                  wire_api = \"responses\"\nenv_key = \"MY_KEY\"\nrequest_max_retries = 2\n\
                  stream_max_retries = 0\nstream_idle_timeout_ms = 4000\n\
                  http_headers = { a = \"1\" }\nenv_http_headers = { b = \"B\", c = \"C\" }\n\
                  query_params = { api-version = \"2026\" }\n";
    let settings = settings(config, "", &[("MY_KEY", KEY), ("B", "2")]).unwrap();
    assert_eq!(address_and_key(&settings), ("https://h/openai", Some(KEY)));
    let headers: Vec<_> = settings.headers.iter().map(|(name, value)| (&**name, value.expose())).collect();
    assert_eq!(headers, [("a", "1"), ("b", "2")]);
    assert_eq!(settings.query, [("api-version".to_owned(), Secret::new("2026"))]);
    let retries = RetrySettings {
        request_max_retries: Some(2),
        stream_max_retries: Some(0),
        stream_idle_timeout_ms: Some(4000),
    };
    assert_eq!(settings.retries, retries);
}

#[test]
fn azure_is_found_by_the_name_or_the_address_of_the_provider() {
    let is_azure = |name: &str, url: &str| {
        let config =
            format!("model_provider = \"p\"\n[model_providers.p]\nname = \"{name}\"\nbase_url = \"{url}\"\n");
        settings(&config, "", &[]).unwrap().is_azure
    };
    assert!(is_azure("Azure", "https://proxy.example/v1"));
    assert!(is_azure("x", "https://Mine.OpenAI.Azure.com/openai") && is_azure("x", "https://x.azurefd.net/"));
    assert!(!is_azure("x", "https://proxy.example/azure") && !is_azure("azure 2", "https://h/v1"));
}

#[test]
fn a_server_on_this_machine_needs_no_key() {
    let own = "model_provider = \"l\"\n[model_providers.l]\nbase_url = \"http://127.0.0.1:1/v1\"";
    for (config, url) in
        [("model_provider = \"ollama\"", "http://localhost:11434/v1"), (own, "http://127.0.0.1:1/v1")]
    {
        let settings = settings(config, "", &[("CODEX_API_KEY", KEY)]).unwrap();
        assert_eq!(address_and_key(&settings), (url, None));
    }
}

#[test]
fn settings_that_the_gateway_can_t_use_are_errors_without_values() {
    let provider = |lines: &str| {
        format!("model_provider = \"p\"\n[model_providers.p]\nbase_url = \"http://h\"\n{lines}\n")
    };
    let with_key = format!("http_headers = \"{KEY}\"");
    for (config, auth, words) in [
        ("a = ".to_owned(), "", "error in line 1"),
        (provider(&with_key), "", "error in line 4"),
        ("model_provider = \"p\"".to_owned(), "", "does not define it"),
        ("model_provider = \"p\"\n[model_providers.p]".to_owned(), "", "has no base_url"),
        (provider("wire_api = \"chat\""), "", "another wire_api"),
        (provider("auth = { command = \"x\" }"), "", "a command that prints the key"),
        (provider("aws = {}"), "", "the credentials of AWS"),
        (provider("env_key = \"MY_KEY\""), "", "from MY_KEY, which is not set"),
        (provider("requires_openai_auth = true"), "", "there is no key"),
        (String::new(), "", "there is no key"),
        (String::new(), "garbage", "there is no key"),
    ] {
        let error = settings(&config, auth, &[]).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(words) && !text.contains(KEY), "{config:?}: {text}");
    }
}

#[test]
fn settings_are_read_from_the_home_of_codex() {
    let home = tempfile::tempdir().unwrap();
    let variable = |name: &str| (name == "HOME").then(|| home.path().display().to_string());
    assert_eq!(UpstreamSettings::of_codex(&variable).unwrap_err(), SettingsError::NoKey);
    std::fs::create_dir(home.path().join(".codex")).unwrap();
    std::fs::write(home.path().join(".codex/auth.json"), format!("{{\"OPENAI_API_KEY\":\"{KEY}\"}}"))
        .unwrap();
    let settings = UpstreamSettings::of_codex(&variable).unwrap();
    assert_eq!(address_and_key(&settings), (OPENAI_URL, Some(KEY)));
    assert!(!format!("{settings:?}").contains(KEY));
}
