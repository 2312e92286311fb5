//! Tests of the defaults, of all settings, and of errors with their lines.

use common::job::{Sandbox, StepKind};
use common::record::State;
use common::rule::{OnLimit, OnLoop, StepRule};

use super::*;
use crate::config::network::{AllowList, NetworkConfig};
use crate::config::{NotifyConfig, SecretSource, Webhook, WorkerCodexConfig};
use crate::engine_kind::EngineKind;
use crate::min_free::{MinFree, Minimum};

fn load(text: &str) -> Result<Config, Failure> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("platform")).unwrap();
    std::fs::write(dir.path().join(CONFIG_PATH), text).unwrap();
    Config::load(dir.path())
}

#[test]
fn defaults_hold_without_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::load(dir.path()).unwrap();
    assert_eq!((config.platform.max_jobs, config.platform.engine), (4, None));
    assert_eq!(config.codex.job_settings(EngineKind::Local).sandbox, Sandbox::WorkspaceWrite);
    assert_eq!(config.codex.job_settings(EngineKind::Docker).sandbox, Sandbox::Off);
}

#[test]
fn settings_in_the_file_replace_the_defaults() {
    let config = load(
        "[platform]\nengine = \"podman\"\nmax_jobs = 2\n[codex]\nsandbox = \"off\"\n\
         [limits]\njob = \"1h\"\nsteps = { install = \"5m\" }\n",
    )
    .unwrap();
    assert_eq!(config.platform.engine, Some(EngineKind::Podman));
    assert_eq!((config.limits.job_ms, config.limits.step_ms(StepKind::Install)), (3_600_000, 300_000));
    assert_eq!(config.codex.job_settings(EngineKind::Local).sandbox, Sandbox::Off);
}

#[test]
fn minimums_of_free_memory_and_disk_have_defaults_and_can_be_switched_off() {
    assert_eq!(load("").unwrap().platform.min_free, MinFree::default());
    let text = "[platform]\nmin_free_memory = \"0\"\nmin_free_disk = \"2GiB\"\n";
    let expected = MinFree { memory: Minimum::Set(0), disk: Minimum::Set(2 << 30) };
    assert_eq!(load(text).unwrap().platform.min_free, expected);
}

#[test]
fn stall_limits_rules_and_reactions_are_read_in_their_order() {
    let config = load(
        "[limits]\nstall = \"90s\"\nstalls = { test = \"10m\" }\non_limit = \"interrupt\"\n\
         on_loop = \"fail\"\n[[step]]\nmatch = 'make (deps|vendor)\\b'\nkind = \"install\"\nlimit = \"5m\"\nstall = \"1m\"\non_limit = \"fail\"\n\
         [[step]]\nmatch = '^ssh '\nkind = \"command\"\n",
    )
    .unwrap();
    assert_eq!((config.limits.stall_ms, config.on_limit), (90_000, OnLimit::Interrupt));
    assert_eq!(config.on_loop, OnLoop::Fail);
    assert_eq!(config.limits.stalls, [(StepKind::Test, 600_000)].into());
    let rule = |pattern: &str, kind, limit_ms, stall_ms, on_limit| StepRule {
        pattern: pattern.to_owned(),
        kind,
        limit_ms,
        stall_ms,
        on_limit,
    };
    let expected = [
        rule("make (deps|vendor)\\b", StepKind::Install, Some(300_000), Some(60_000), Some(OnLimit::Fail)),
        rule("^ssh ", StepKind::Command, None, None, None),
    ];
    assert_eq!(config.rules, expected);
}

#[test]
fn notification_settings_are_read_with_paths_below_the_project_root() {
    let text = "[notify]\ncodex = \"bin/codex\"\ndesktop = true\ncommand = [\"notify\", \"me\"]\n\
                webhook = \"https://example.org/hook\"\nwebhook_secret_file = \"secret\"\non = [\"failed\"]\n";
    let mut config = load(text).unwrap();
    let root = config.root.clone();
    let expected = NotifyConfig {
        codex: root.join("bin/codex").to_string_lossy().into_owned(),
        notifies_desktop: true,
        command: vec!["notify".to_owned(), "me".to_owned()],
        webhook: Some(Webhook {
            url: "https://example.org/hook".to_owned(),
            secret: Some(SecretSource::File(root.join("secret"))),
        }),
        notified_states: vec![State::Failed],
    };
    similar_asserts::assert_eq!(config.notify, expected);
    config = load("").unwrap();
    assert_eq!(config.notify, NotifyConfig::default());
}

#[test]
fn a_default_limit_may_exceed_a_configured_limit_without_an_error() {
    // Defaults: install 10m, stall 2m, job 4h.
    let text = "[limits]\njob = \"5m\"\nsteps = { clone = \"1m\" }\n[[step]]\nmatch = 'x'\nkind = \"test\"\nlimit = \"1m\"\n";
    let config = load(text).unwrap();
    assert_eq!((config.limits.job_ms, config.limits.stall_ms), (300_000, 120_000));
}

#[test]
fn a_container_for_each_job_has_the_gateway_by_default() {
    let has_gateway = |text: &str| {
        let config = load(text).unwrap();
        [EngineKind::Docker, EngineKind::Podman, EngineKind::Local]
            .map(|engine| config.has_model_gateway(engine))
    };
    assert_eq!(has_gateway(""), [true, true, false]);
    assert_eq!(has_gateway("[platform]\nisolation = \"shared\""), [false; 3]);
    assert_eq!(has_gateway("[model]\ngateway = false"), [false; 3]);
    assert_eq!(has_gateway("[model]\ngateway = true"), [true; 3]);
}

#[test]
fn workers_have_settings_of_the_host_or_a_file_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let load = |codex: &str| {
        std::fs::create_dir_all(dir.path().join("platform")).unwrap();
        std::fs::write(dir.path().join(CONFIG_PATH), format!("[codex]\n{codex}\n")).unwrap();
        Config::load(dir.path()).map(|config| config.platform.codex_config)
    };
    let host =
        |mcp: &[&str]| WorkerCodexConfig::Host { mcp: mcp.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(load("").unwrap(), host(&[]));
    assert_eq!(load("mcp = [\"docs\"]").unwrap(), host(&["docs"]));
    let (path, text) = (dir.path().join("platform/codex.toml"), "model = \"m\"\n".to_owned());
    let named = "config = \"platform/codex.toml\"";
    let error = |codex: &str| load(codex).unwrap_err().message;
    assert!(
        error(named).contains("relay.toml:2: ") && error(named).contains("can't be read"),
        "{}",
        error(named)
    );
    std::fs::write(&path, "= broken").unwrap();
    assert!(error(named).contains("is not valid TOML"), "{}", error(named));
    std::fs::write(&path, &text).unwrap();
    assert_eq!(load(named).unwrap(), WorkerCodexConfig::File { path, text });
    assert!(error(&format!("mcp = [\"docs\"]\n{named}")).contains("write the servers into the file"));
}

#[test]
fn budgets_and_prices_are_in_dollars() {
    let text = "[model]\ngateway = true\n[budget]\njob = 2.5\njob_tokens = 1000\n\
                [prices]\n\"m\" = { input = 1, output = 2.5 }\n";
    let config = load(text).unwrap();
    let budget = common::budget::Budget { max_tokens: Some(1000), max_cost_micros: Some(2_500_000) };
    assert_eq!(config.limits.budget, budget);
    let usage = common::event::Usage { input_tokens: 10, output_tokens: 2, ..Default::default() };
    assert_eq!(config.prices.price("m").unwrap().cost_micros(&usage, 0), 15);
    assert!(load("").unwrap().limits.budget.is_unlimited());
}

#[test]
fn an_own_list_of_hosts_takes_the_place_of_the_default() {
    let network = |text| load(text).unwrap().network;
    assert_eq!(network("[network]\n"), NetworkConfig::default());
    let own = network("[network]\nallow = [\"npm\", \"h.example:8443\"]\n");
    let expected = NetworkConfig {
        allow: AllowList::for_test(&["npm", "h.example:8443"]),
        is_explicit_allow_list: true,
    };
    assert_eq!(own, expected);
    let nothing = network("[network]\nallow = []\n");
    assert_eq!(nothing.allow, AllowList::for_test(&[]));
}

#[test]
fn errors_are_reported_with_file_line_and_reason() {
    let rule =
        |rule_lines: &str| format!("\n[[step]]\nmatch = 'ok'\nkind = \"test\"\n[[step]]\n{rule_lines}\n");
    let too_many_rules = "[[step]]\nmatch = 'ok'\nkind = \"test\"\n".repeat(101);
    let too_long_rule = format!("match = '{}'\nkind = \"test\"", "x".repeat(1001));
    for (text, line, reason) in [
        ("[limits]\njob = \"0s\"", 2, "longer than 0"),
        ("[limits]\njob = \"400d\"", 2, "longer than a year"),
        ("[limits]\nstall = \"99999999999999999999s\"", 2, "not a duration"),
        ("[limits.steps]\n\ninstal = \"5m\"", 3, "instal"),
        ("[limits.stalls]\n\ninstal = \"5m\"", 3, "instal"),
        ("[limits]\non_limit = \"panic\"", 2, "panic"),
        ("[limits]\non_loop = \"panic\"", 2, "panic"),
        ("[platform]\nengine = \"qemu\"", 2, "qemu"),
        ("[plattform]\n", 1, "plattform"),
        ("[platform]\n\nmax_jobs = 0", 3, "1 to 50"),
        ("[platform]\nmin_free_memory = \"256\"", 2, "min_free_memory = '256': write it like 256MiB"),
        ("[platform]\nmin_free_disk = \"-1G\"", 2, "or 0 for none"),
        (
            "[limits]\njob = \"10m\"\n[limits.steps]\ntest = \"5m\"\ninstall = \"11m\"",
            5,
            "steps.install = 11m",
        ),
        ("[limits]\nstalls = { test = \"30m\" }", 2, "stalls.test = 30m would never be reached"),
        ("[limits]\nstalls = { model = \"3m\" }", 2, "never stalls"),
        ("[limits]\nsteps = { fetch = \"1m\" }\nstall = \"1m\"", 3, "fetch steps are limited to 1m"),
        ("[limits]\nstall = \"10m\"", 2, "never be reached"),
        (&rule("match = '('\nkind = \"test\""), 6, "match = '('"),
        (&rule("match = ' '\nkind = \"test\""), 6, "empty"),
        (&rule(&too_long_rule), 6, "1000 bytes"),
        (&rule("match = 'x'\nkind = \"tests\""), 7, "tests"),
        (&rule("match = 'x'\nkind = \"model\""), 7, "model"),
        (&rule("match = 'x'"), 5, "kind"),
        (&rule("match = 'x'\nkind = \"test\"\nlimit = \"0s\""), 8, "longer than 0"),
        (&rule("match = 'x'\nkind = \"test\"\nlimti = \"1s\""), 8, "limti"),
        (&rule("match = 'x'\nkind = \"test\"\nlimit = \"2h\"\n[limits]\njob = \"1h\""), 8, "limit = 2h"),
        (&rule("match = 'x'\nkind = \"test\"\nlimit = \"1m\"\nstall = \"1m\""), 9, "stall = 1m"),
        (&rule("match = 'x'\nkind = \"clone\"\nstall = \"5m\""), 8, "clone steps are limited to 5m"),
        (&too_many_rules, 301, "at most 100"),
        ("[notify]\nwebhook = \"example.org\"", 2, "webhook is not a URL"),
        ("[notify]\nwebhook = \"ftp://example.org/x\"", 2, "webhook is not a URL"),
        ("[notify]\nwebhook_secret_env = \"S\"", 2, "no webhook"),
        (
            "[notify]\nwebhook = \"http://h/\"\nwebhook_secret_file = \"f\"\nwebhook_secret_env = \"S\"",
            4,
            "two secrets",
        ),
        ("[notify]\n\ncommand = []", 3, "names no program"),
        ("[notify]\ncodex = \"\"", 2, "names no program"),
        ("[notify]\non = []", 2, "on = []"),
        ("[notify]\non = [\"ended\"]", 2, "ended"),
        ("[model]\ngateway = \"on\"", 2, "expected a boolean"),
        ("[model]\ngatewy = true", 2, "gatewy"),
        ("[budget]\njob = -5", 2, "no cost in US dollars"),
        ("[budget]\njob_tokens = 0", 2, "job_tokens = 0"),
        ("[prices.m]\ninput = 1", 1, "missing field `output`"),
        ("[prices]\nm = { input = -1, output = 1 }", 2, "[prices] m: a price is 0 to"),
        (
            "[network]\nallow = [\"npm\",\n\"https://h.example\"]",
            3,
            "[network] allow: \"https://h.example\" is a URL",
        ),
        ("[network]\nallow = \"npm\"", 2, "expected a sequence"),
        ("[network]\nalow = []", 2, "alow"),
        ("[notify]\ndesktop = \"yes\"", 2, "expected a boolean"),
    ] {
        let message = load(text).unwrap_err().message;
        assert!(message.contains(&format!("relay.toml:{line}: ")), "line {line} of {text}: {message}");
        assert!(message.contains(reason), "{text}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
