use super::*;

fn settings(root: &Path, text: &str) -> ApprovableSettings {
    fs::create_dir_all(root.join("platform")).unwrap();
    fs::write(root.join(config::CONFIG_PATH), text).unwrap();
    let config = Config::load(root).unwrap();
    ApprovableSettings::new(config.platform.engine.unwrap_or(EngineKind::Docker), &config)
}

#[test]
fn only_comments_order_and_limits_may_change_without_a_new_approval() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let approved = settings(&root, "[platform]\nname = \"a\"\n[limits]\njob = \"1h\"\n");
    for equal_text in [
        "# with a comment\n[platform]\nname = 'a'\n",
        "[limits]\njob = \"2h\"\n[platform]\nname = \"a\"\n[[step]]\nmatch = 'x'\nkind = \"test\"\n",
    ] {
        assert_eq!(settings(&root, equal_text).digest(), approved.digest(), "{equal_text}");
    }
    for (other_text, line) in [
        ("", "- platform.name = \"a\""),
        ("[platform]\nname = \"a\"\nworkspaces = \"/srv\"\n", "+ workspaces (resolved) = /srv"),
        ("[platform]\nname = \"a\"\nimage = \"x\"\n", "+ image = x"),
        ("[platform]\nname = \"a\"\nengine = \"local\"\n", "+ engine = local"),
        ("[platform]\nname = \"a\"\n[notify]\ncommand = [\"sh\"]\n", "+ notify.command = [\"sh\"]"),
        ("[platform]\nname = \"a\"\n[codex]\nprogram = \"/tmp/codex\"\n", "+ codex.program = \"/tmp/codex\""),
        (
            "[platform]\nname = \"a\"\n[codex]\nsandbox = \"workspace-write\"\n",
            "+ codex.sandbox (in effect) = workspace-write",
        ),
    ] {
        let changed = settings(&root, other_text).lines_changed_since(&approved);
        assert!(changed.iter().any(|changed| changed == line), "{other_text}: {changed:?}");
    }
}

#[test]
fn every_setting_is_shown_in_full_and_programs_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("docker/certs")).unwrap();
    let approved = settings(&root, "");
    for number in 0..20 {
        fs::write(root.join(format!("docker/certs/{number}.crt")), "a").unwrap();
    }
    let long = "a".repeat(5000);
    let text = format!(
        "[platform]\nbase = \"x\"\n[notify]\ncommand = [\"/bin/echo\", \"{long}\\n\\u202Ehidden\", \"end\"]\n"
    );
    let shown = settings(&root, &text).lines_changed_since(&approved);
    assert!(shown[0].starts_with("+ notify.command = ") && shown[0].ends_with("\"end\"]"), "{shown:?}");
    assert!(shown[0].contains("\\u{202e}hidden"), "{shown:?}");
    assert!(shown.iter().any(|line| line == "+ platform.base = \"x\""), "{shown:?}");
    assert_eq!(shown.last().unwrap(), "more certificates: 15");
    assert!(shown.iter().all(|line| !line.chars().any(char::is_control)), "{shown:?}");
}

#[test]
fn changed_certificates_and_link_targets_need_a_new_approval() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("docker/certs")).unwrap();
    fs::create_dir(root.join("workspace-projects")).unwrap();
    let text = "";
    let mut digests = BTreeSet::from([settings(&root, text).digest()]);
    let mut is_new = |what: &str| assert!(digests.insert(settings(&root, text).digest()), "{what}");
    fs::write(root.join("docker/certs/a.crt"), "one").unwrap();
    is_new("a certificate");
    fs::write(root.join("docker/certs/a.crt"), "two").unwrap();
    is_new("a certificate's content");
    fs::remove_dir(root.join("workspace-projects")).unwrap();
    std::os::unix::fs::symlink("/srv", root.join("workspace-projects")).unwrap();
    is_new("a link instead of the workspaces folder");
}

#[test]
fn each_project_has_its_own_approval_in_the_users_state_folder() {
    let path_of = |root: &str, set: &[(&str, &str)]| {
        approval_path(Path::new(root), &|name| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        })
    };
    let home = path_of("/a", &[("HOME", "/home/u")]).unwrap();
    assert!(home.starts_with("/home/u/.local/state/relay/consent"), "{}", home.display());
    let state = path_of("/a", &[("HOME", "/home/u"), ("XDG_STATE_HOME", "/state")]).unwrap();
    assert!(state.starts_with("/state/relay/consent"), "{}", state.display());
    assert_eq!(state.file_name(), home.file_name());
    assert_ne!(path_of("/b", &[("HOME", "/home/u")]).unwrap(), home);
    assert_eq!(path_of("/a", &[("HOME", "relative")]), None);
}
