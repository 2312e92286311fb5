//! Tests of the texts that init writes against the programs that read them.

use std::collections::BTreeSet;
use std::fs;

use common::job::StepKind;

use super::*;
use crate::config::{Config, WorkerCodexConfig};

/// Commands that the rules allow outside of Codex's sandbox: they need the container engine or the relay itself. Every
/// other command uses files only, and works inside.
const COMMANDS_OUTSIDE_SANDBOX: [&str; 3] = ["up", "down", "doctor"];

fn load(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("platform")).unwrap();
    fs::write(dir.path().join("platform/relay.toml"), text).unwrap();
    fs::write(dir.path().join("platform/codex.toml"), "").unwrap();
    let mut config = Config::load(dir.path()).map_err(|failure| failure.message)?;
    // Makes configurations of different folders comparable.
    if let WorkerCodexConfig::File { path, .. } = &mut config.platform.codex_config {
        *path = "/project/platform/codex.toml".into();
    }
    config.root = "/project".into();
    config.text.clear();
    config.platform.workspaces_folder =
        config.platform.workspaces_folder.strip_prefix(dir.path()).unwrap().to_owned();
    config.platform.certs_folder = config.platform.certs_folder.strip_prefix(dir.path()).unwrap().to_owned();
    Ok(config)
}

/// The only setting of the template that is not commented out: jobs of a new project work in clones, on branches.
const ENABLED_SETTING: &str = "branch = true";

/// Returns the settings of the template as (table, line), without `#`.
fn template_settings() -> Vec<(String, String)> {
    let mut table = String::new();
    let mut all = Vec::new();
    for line in SETTINGS_TEXT.lines() {
        let uncommented = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        if line.starts_with('[') || uncommented.is_some_and(|uncommented| uncommented.starts_with('[')) {
            table = uncommented.unwrap_or(line).to_owned();
        } else if let Some(uncommented) =
            uncommented.or_else(|| Some(line).filter(|line| *line == ENABLED_SETTING))
        {
            all.push((table.clone(), uncommented.to_owned()));
        } else {
            assert!(line.is_empty() || line.starts_with("# "), "neither a setting nor words: {line}");
        }
    }
    all
}

/// Returns the settings that a table may have, as the error for an unknown setting lists them.
fn accepted_settings(table: &str) -> BTreeSet<String> {
    let error = load(&format!("{table}\nunknown = 1\n")).unwrap_err();
    let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("{table}: {error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_template_names_every_setting() {
    let tables: BTreeSet<String> = SETTINGS_TEXT
        .lines()
        .map(|line| line.trim_start_matches('#'))
        .filter(|line| line.starts_with('['))
        .map(|line| line.trim_matches(['[', ']']).to_owned())
        .collect();
    let inner = |table: &&String| table.contains('.');
    let tops: BTreeSet<String> = tables.iter().filter(|table| !inner(table)).cloned().collect();
    assert_eq!(tops, accepted_settings(""));
    let has_free_names = |table: &&String| ["step", "groups", "prices"].contains(&table.as_str());
    for table in tops.iter().filter(|table| !has_free_names(table)) {
        let mut named: BTreeSet<String> = template_settings()
            .iter()
            .filter(|(at, _)| *at == format!("[{table}]"))
            .filter_map(|(_, line)| line.split_once(' ').map(|(name, _)| name.to_owned()))
            .collect();
        named.extend(
            tables.iter().filter_map(|inner| inner.strip_prefix(&format!("{table}."))).map(str::to_owned),
        );
        assert_eq!(named, accepted_settings(&format!("[{table}]")), "[{table}]");
    }
    let rule: BTreeSet<String> = template_settings()
        .iter()
        .filter(|(at, _)| at == "[[step]]")
        .filter_map(|(_, line)| line.split_once(' ').map(|(name, _)| name.to_owned()))
        .collect();
    assert_eq!(rule, accepted_settings("[[step]]\nmatch = 'x'\nkind = \"test\""));
    for kind in StepKind::ALL {
        let line = format!("{kind} = ");
        assert!(
            template_settings()
                .iter()
                .any(|(at, setting)| at == "[limits.steps]" && setting.starts_with(&line)),
            "{kind}"
        );
    }
}

#[test]
fn each_setting_of_the_template_is_valid_and_a_default_changes_nothing() {
    let defaults = load("").unwrap();
    let mut written = load(SETTINGS_TEXT).unwrap();
    assert!(std::mem::replace(&mut written.branch, false));
    assert_eq!(written, defaults);
    for (table, line) in template_settings() {
        if table == "[[step]]" {
            continue;
        }
        let webhook = if line.starts_with("webhook_secret") { "webhook = 'http://x'\n" } else { "" };
        let mut config =
            load(&format!("{table}\n{webhook}{line}\n")).unwrap_or_else(|e| panic!("{line}: {e}"));
        let is_example = match (table.as_str(), line.split(' ').next().unwrap()) {
            ("[limits.stalls]" | "[groups]" | "[budget]" | "[prices]", _)
            | ("[relay]", "port")
            | ("[codex]", "model" | "config")
            | ("[workspace]", "branch")
            | ("[platform]", "image" | "cpus" | "min_free_memory" | "min_free_disk") => true,
            ("[notify]", name) => name == "command" || name.starts_with("webhook"),
            // Without these settings, the engine, the gateway and the sandbox are chosen later, so their values are compared here.
            ("[platform]", "engine") => {
                assert_eq!(config.platform.engine.take(), Some(crate::engine_kind::EngineKind::Docker));
                false
            }
            ("[model]", "gateway") => {
                assert_eq!(config.model_gateway.take(), Some(true));
                false
            }
            ("[codex]", "sandbox") => {
                config.codex.sandbox = None;
                false
            }
            ("[limits.steps]", kind) => {
                let kind: StepKind = kind.parse().unwrap();
                assert_eq!(config.limits.step_ms(kind), kind.default_limit_ms(), "{line}");
                config.limits.steps.clear();
                false
            }
            _ => false,
        };
        assert_eq!(config == defaults, !is_example, "[{table}] {line}");
    }
}

#[test]
fn all_settings_can_be_set_together() {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    // Only one of the two sources of a secret can be set.
    let lines = SETTINGS_TEXT.lines().filter(|line| !line.starts_with("#webhook_secret_env"));
    let text: String = lines.map(|line| uncomment(line) + "\n").collect();
    let config = load(&text).unwrap();
    assert_eq!((config.port, config.rules.len()), (Some(4111), 1));
}

#[test]
fn the_rules_allow_only_commands_that_must_run_outside_of_the_sandbox() {
    let pattern = format!("pattern = [\"relay\", {COMMANDS_OUTSIDE_SANDBOX:?}]");
    assert!(RULES_TEXT.contains(&pattern), "{pattern}");
    let decisions = |decision: &str| RULES_TEXT.matches(&format!("decision = \"{decision}\"")).count();
    assert_eq!((decisions("allow"), decisions("forbidden"), decisions("prompt")), (1, 1, 0));
    let home = Path::new("/h/.codex");
    let expected =
        [PathBuf::from("/p/.codex/rules/relay.rules"), PathBuf::from("/h/.codex/rules/relay.rules")];
    assert_eq!(rules_files(Path::new("/p"), Some(home)), expected);
}

#[test]
fn each_request_has_its_files_and_a_removal_has_all_files() {
    let homes = AgentHomes { codex: Some("/h/.codex".into()), claude: Some("/h/.claude".into()) };
    let put = Mode::Put { force: false };
    let paths = |codex, claude, user, mode| -> Vec<String> {
        let managed_files = managed_files(
            InitRequest { includes_codex: codex, includes_claude: claude, is_for_user: user, mode },
            Path::new("/p"),
            &homes,
            Vec::new(),
        );
        managed_files.iter().map(|managed| managed.path.display().to_string()).collect()
    };
    let always_written = [
        "/p/platform/relay.toml",
        "/p/.gitignore",
        "/p/AGENTS.md",
        "/p/.agents/skills/relay/SKILL.md",
        "/p/.codex/rules/relay.rules",
    ];
    let always_and = |others: &[&str]| -> Vec<String> {
        always_written.iter().chain(others).map(|path| (*path).to_owned()).collect()
    };
    let codex = ["/p/.codex/config.toml", "/p/.codex/hooks.json"];
    let claude = ["/p/CLAUDE.md", "/p/.mcp.json", "/p/.claude/settings.json"];
    let user = ["/h/.codex/rules/relay.rules"];
    let codex_user = ["/h/.codex/config.toml", "/h/.codex/hooks.json"];
    let claude_user = ["/h/.claude/settings.json"];
    assert_eq!(paths(false, false, false, put), always_and(&[]));
    assert_eq!(paths(true, true, false, put), always_and(&[&codex[..], &claude].concat()));
    assert_eq!(paths(false, false, true, put), always_and(&user));
    assert_eq!(
        paths(true, true, true, put),
        always_and(&[&claude[..2], &user, &codex_user, &claude_user].concat())
    );
    assert_eq!(paths(false, false, false, Mode::Remove), always_and(&[&codex[..], &claude].concat()));
    assert_eq!(
        paths(false, false, true, Mode::Remove),
        always_and(&[&codex[..], &claude, &user, &codex_user, &claude_user].concat())
    );
}

#[test]
fn a_claude_md_that_includes_agents_md_needs_no_section_of_its_own() {
    let section = ManagedContent::BlockUnlessImported(MarkerSyntax::Html, "x\n".to_owned());
    let put = Mode::Put { force: false };
    assert_eq!(section.decide(Some("See @AGENTS.md\n"), put), Ok(Decision::nothing()));
    assert_ne!(section.decide(Some("See AGENTS\n"), put), Ok(Decision::nothing()));
}
