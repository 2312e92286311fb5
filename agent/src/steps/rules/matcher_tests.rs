//! Tests of the table: each row has an example that only this row describes.

use common::job::StepKind::{Build, Install, Test};

use super::super::programs::strip_wrappers;
use super::super::shell_lexer::simple_commands;
use super::*;

fn find(line: &str) -> Option<&'static Row> {
    match_command(strip_wrappers(&simple_commands(line)[0].words)).map(|found| found.row)
}

#[test]
fn every_row_of_the_table_describes_its_example() {
    for row in TABLE {
        assert_eq!(find(row.3), Some(row), "{}", row.3);
    }
}

#[test]
fn every_program_of_the_table_is_written_as_it_is_looked_up() {
    for (_, programs, pattern, _) in TABLE {
        for name in programs.split('|') {
            assert!(!name.is_empty() && base_name(name) == name, "{programs}");
            assert!(
                !pattern.split([' ', '|']).any(|word| !pattern.is_empty() && word.is_empty()),
                "{pattern}"
            );
        }
    }
}

#[test]
fn a_runner_is_classified_by_the_program_that_it_runs() {
    for (kind, line) in [
        (Some(Test), "npx jest --ci"),
        (Some(Test), "npx -y -p typescript vitest run"),
        (Some(Build), "npx tsc --noEmit"),
        (Some(Test), "npm exec -- jest"),
        (Some(Test), "yarn jest"),
        (Some(Test), "poetry run pytest -x"),
        (Some(Test), "uv run python -m pytest"),
        (Some(Test), "uv run --with x env CI=1 pytest"),
        (Some(Test), "bundle exec rspec"),
        (Some(Test), "coverage run -m pytest"),
        (Some(Install), "npx create-react-app x"),
        (Some(Install), "uvx ruff check"),
        (Some(Install), "yarn install"),
        (Some(Install), "pnpm add jest"),
        (None, "poetry run ./serve.py"),
        (Some(Install), "npx"),
        (None, "yarn lint"),
    ] {
        assert_eq!(find(line).map(|row| row.0), kind, "{line}");
    }
    assert!(find(&"npx ".repeat(1000)).is_some());
}

#[test]
fn options_numbers_settings_and_versions_do_not_hide_a_command() {
    for line in [
        "git -C sub -c http.proxy=x --git-dir y pull --rebase",
        "npm -s --prefix web ci",
        "npm --loglevel error ci",
        "cargo +nightly --config x fetch",
        "docker --context x compose -f a -f b pull",
        "apt-get -o Acquire::Retries=3 -y install x",
        "pip3.11 install x",
        "/opt/bin/uv --directory web sync",
        "cargo-binstall binstall x",
    ] {
        assert!(find(line).is_some(), "{line}");
    }
    let kind = |line| find(line).map(|row| row.0);
    assert_eq!(kind("make -j 8 V=1 check"), Some(Test));
    assert_eq!(kind("make -s clean test"), Some(Test));
    assert_eq!(kind("make clean"), Some(Build));
    assert_eq!(kind("mvn -o clean verify"), Some(Test));
    assert_eq!(kind("./gradlew :app:test"), Some(Test));
    assert_eq!(kind("cargo-nextest nextest run"), Some(Test));
    assert_eq!(kind("cargo-nextest run"), Some(Test));
    assert_eq!(kind("node --test tests/"), Some(Test));
}

#[test]
fn other_commands_of_the_same_programs_are_not_in_the_table() {
    for line in [
        "git status",
        "git index-pack --stdin",
        "git remote -v",
        "npm --version",
        "npm run lint",
        "cargo run",
        "docker ps",
    ] {
        assert_eq!(find(line), None, "{line}");
    }
}
