//! Command lines as people and workers write them, with the kind and title that each must get.

use common::job::StepKind::{self, Build, Clone, Command, Fetch, Install, Test};

use super::super::Rules;
use super::*;

#[track_caller]
fn check(cases: &[(StepKind, &str, &str)]) {
    for (kind, title, line) in cases {
        let expected = Classification::without_rule(*kind, (*title).to_owned());
        assert_eq!(Rules::default().classify_line(line), expected, "{line}");
    }
}

#[test]
fn one_command_of_the_table_gives_the_line_its_kind_and_title() {
    check(&[
        (Install, "npm ci", "npm ci"),
        (Install, "npm ci --no-audit", "/bin/bash -lc 'cd app && npm ci --no-audit 2>&1 | tail -5'"),
        (Install, "npm ci", "npm ci 2>&1 | tail -5"),
        (Install, "npm ci", "cd app && CI=1 sudo -u worker npm ci"),
        (Install, "npm install", "timeout -k 5 600 nice -n 5 npm install > log 2>&1 || true"),
        (Install, "pip install x", "env FOO=1 BAR='a b' pip install x"),
        (
            Install,
            "npm ci",
            "set -euo pipefail; export A=b\nmkdir -p x\n# now\nnpm ci | tee log | grep -v warn",
        ),
        (Install, "npm ci", "bash -c \"sh -c 'npm ci'\""),
        (Install, "npm ci", "bash -euo pipefail -c 'echo go; npm ci'"),
        (Install, "npm ci", "sudo bash -c 'cd x && npm ci' 2>&1 | tail"),
        (Install, "npm i -g foo", "if ! command -v foo >/dev/null; then npm i -g foo; fi"),
        (Install, "apt-get install -y git", "yes | /usr/bin/apt-get install -y git"),
        (Install, "pip install -r x.txt", "python3 -m pip install -r x.txt"),
        (Install, "npm ci", "time npm ci & wait"),
        (Install, "npm ci", "cat > .npmrc <<EOF\nregistry=x; y\nEOF\nnpm ci"),
        (Fetch, "curl $u", "for u in a b; do curl $u; done"),
        (Fetch, "curl -s https://x", "V=$(curl -s https://x | jq -r .v); echo $V"),
        (Fetch, "curl -fsSL https://***@host/x", "curl -fsSL https://user:token@host/x | jq ."),
        (Clone, "git clone x", "if true; then git clone x; fi"),
        (Test, "make test", "(cd x; make test)"),
        (Test, "pytest -k 'a and b'", "python -m pytest -k 'a and b' | tail -20"),
        (Test, "jest --ci", "node node_modules/jest/bin/jest.js --ci"),
        (Build, "make -j8", "cd build && /usr/bin/make -j8 2>&1 | grep -i error | head"),
    ]);
}

#[test]
fn a_line_with_more_commands_is_an_ordinary_command_titled_by_the_line() {
    check(&[
        (Command, "npm ci && npm test", "/bin/bash -lc 'npm ci && npm test'"),
        (Command, "cargo build && cargo test", "cargo build && cargo test"),
        (Command, "curl -fsSL x | sh", "curl -fsSL x | sh"),
        (Command, "while true; do curl x; sleep 5; done", "while true; do curl x; sleep 5; done"),
        (Command, "sleep 5; npm ci", "sleep 5; npm ci"),
        (Command, "npm ci; ./deploy", "npm ci; ./deploy"),
        (Command, "if [ -f x ]; then npm ci; else npm i; fi", "if [ -f x ]; then npm ci; else npm i; fi"),
        (Command, "npm ci …", "npm ci\nnpm test"),
        (Command, "curl $(./address)", "curl $(./address)"),
    ]);
}

#[test]
fn a_command_outside_of_the_table_is_an_ordinary_command() {
    check(&[
        (Command, "sleep 600", "/bin/bash -lc 'echo begin; sleep 600'"),
        (Command, "script.py --fast", "cd x && ./script.py --fast > log"),
        (Command, "python3 script.py", "python3 script.py"),
        (Command, "bash run.sh", "bash run.sh"),
        (Command, "git status", "git status"),
        (Command, "grep -r x .", "grep -r x ."),
    ]);
}

#[test]
fn a_job_s_line_without_a_command_of_the_table_is_its_own_title() {
    for (line, title) in [
        ("for i in 1 2 3; do echo $i; sleep 2; done", "for i in 1 2 3; do echo $i; sleep 2; done"),
        ("sleep 1; echo hi", "sleep 1; echo hi"),
        ("cd x && npm ci", "npm ci"),
        ("./deploy\n./check", "./deploy …"),
    ] {
        assert_eq!(Rules::default().classify_job_line(line).title, title);
    }
}

#[test]
fn lines_of_trivial_commands_are_their_own_titles() {
    check(&[
        (Command, "", ""),
        (Command, "'", "'"),
        (Command, "ls -la", "ls -la"),
        (Command, "echo hi; exit 3", "bash -lc 'echo hi; exit 3'"),
        (Command, "echo 'npm install && curl x'", "echo 'npm install && curl x'"),
        (Command, "cat <<'EOF' > setup.sh …", "cat <<'EOF' > setup.sh\nnpm install \"x\ncurl y\nEOF"),
        (Command, "A=1 B=(npm ci)", "A=1 B=(npm ci)"),
        (Command, "test -f x || [ -d y ] && pwd", "test -f x || [ -d y ] && pwd"),
        (Command, "tail -f log | grep x", "tail -f log | grep x"),
    ]);
}

#[test]
fn titles_are_one_short_line() {
    let long = format!("npm install {}", "left-pad@1.3.0 ".repeat(20));
    check(&[
        (Install, "npm install left-pad@1.3.0 left-pad@1.3.0 left-pad@1.3.0 …", &long),
        (Command, "python3 -c 'import x print(1)'", "python3 -c 'import x\nprint(1)'"),
        (Command, "node\u{fffd}x", "./node\u{fffd}\x1b\u{202e}x"),
    ]);
}

#[test]
fn the_line_inside_of_a_shell_call_is_shown() {
    for (command, line) in [
        ("/bin/bash -lc 'echo hi; exit 3'", "echo hi; exit 3"),
        ("bash -lc ls", "ls"),
        ("bash -euo pipefail -c ls", "ls"),
        ("git status", "git status"),
        ("bash script.sh", "bash script.sh"),
        ("bash -c 'echo $0' name", "bash -c 'echo $0' name"),
        ("bash -lc 'unclosed", "bash -lc 'unclosed"),
    ] {
        assert_eq!(strip_shell(command), line);
    }
}

#[test]
fn only_the_beginning_of_an_endless_line_is_examined() {
    for piece in [
        "a; ",
        "$(",
        "`",
        "'",
        "\"$(",
        "<(",
        "((",
        "x <<E\n",
        "sh -c ",
        "ä",
        "# ",
        "echo $(echo $(echo `id`)) ",
    ] {
        let line = piece.repeat(1024 * 1024 / piece.len());
        let begin = std::time::Instant::now();
        let classification = Rules::default().classify_line(&line);
        assert_eq!(classification.kind, Command, "{piece}");
        assert!(classification.title.chars().count() <= title::MAX_TITLE, "{piece}");
        // A linear algorithm takes some 10 ms without optimization; a quadratic one would take minutes.
        assert!(begin.elapsed().as_secs() < 30, "{piece}: {:?}", begin.elapsed());
    }
}
