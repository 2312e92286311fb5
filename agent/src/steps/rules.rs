//! Which kind of work a command line is. Pure.
//!
//! The line is split crudely at `&&`, `||`, `;`, `|`, `&` and line breaks; each part is looked up in [`TABLE`] and the most
//! significant kind wins, in the order of [`ORDER`]: what reaches the network first, because its limits are the
//! tightest and its hangs the most usual.

use common::job::StepKind;

/// From most to least significant.
const ORDER: [StepKind; 5] =
    [StepKind::Install, StepKind::Clone, StepKind::Fetch, StepKind::Test, StepKind::Build];

/// Kind, program, and the words that must follow it (options between them don't matter). A word may be a set of
/// alternatives (`a|b`), or a beginning (`test*`). The first row that fits decides.
const TABLE: &[(StepKind, &str, &str)] = &[
    (StepKind::Clone, "git", "clone|fetch|pull|submodule|lfs|ls-remote|push"),
    (StepKind::Clone, "gh", "repo clone"),
    (StepKind::Clone, "hg|svn", "clone|pull|checkout|update"),
    (StepKind::Test, "npm|pnpm|bun", "test|t|tst"),
    (StepKind::Test, "npm|pnpm|yarn|bun", "run|run-script test*"),
    (StepKind::Test, "yarn", "test*"),
    (StepKind::Build, "npm|pnpm|yarn|bun", "run|run-script build*"),
    (StepKind::Build, "pnpm|yarn", "build*"),
    (StepKind::Build, "bun", "build"),
    (StepKind::Install, "npm", "install|ci|add|i|update|up|exec|create|init|install-test|it"),
    (StepKind::Install, "pnpm|bun", "install|add|i|update|up|dlx|create|x|fetch"),
    (StepKind::Install, "yarn", "install|add|up|upgrade|dlx|create"),
    (StepKind::Install, "npx|bunx|pnpx", ""),
    (StepKind::Install, "pip|pip3", "install|download|wheel"),
    (StepKind::Install, "uv", "pip install|sync|compile"),
    (StepKind::Install, "uv", "sync|add|lock|tool|python"),
    (StepKind::Install, "uvx", ""),
    (StepKind::Install, "poetry", "install|add|update|lock"),
    (StepKind::Install, "pipx", "install|run|upgrade"),
    (StepKind::Install, "pdm|pipenv|hatch", "install|add|update|sync"),
    (StepKind::Install, "conda|mamba|micromamba", "install|create|update|env"),
    (StepKind::Install, "cargo", "fetch|install|add|update|vendor|binstall"),
    (StepKind::Install, "rustup", "install|update|toolchain|component|target"),
    (StepKind::Install, "go", "mod download|tidy|vendor"),
    (StepKind::Install, "go", "get|install"),
    (StepKind::Install, "mvn|mvnw", "dependency:*"),
    (StepKind::Install, "bundle|bundler", "install|update|add"),
    (StepKind::Install, "gem", "install|update"),
    (StepKind::Install, "apt|apt-get|aptitude", "install|update|upgrade|dist-upgrade|build-dep"),
    (StepKind::Install, "apk", "add|update|upgrade"),
    (StepKind::Install, "dnf|yum|microdnf|zypper", "install|update|upgrade|in|up"),
    (StepKind::Install, "brew", "install|update|upgrade"),
    (StepKind::Install, "composer", "install|update|require"),
    (StepKind::Install, "dotnet", "restore"),
    (StepKind::Install, "corepack", "install|prepare|use"),
    (StepKind::Fetch, "curl|wget|rsync|scp|sftp|aria2c", ""),
    (StepKind::Fetch, "docker|podman", "pull|push|login"),
    (StepKind::Fetch, "docker|podman", "compose pull"),
    (StepKind::Fetch, "skopeo|crane|oras", ""),
    (StepKind::Test, "cargo", "test|t|nextest|bench"),
    (StepKind::Test, "pytest|py.test|jest|vitest|mocha|ava|rspec|phpunit|tox|nox|ctest|playwright", ""),
    (StepKind::Test, "go", "test"),
    (StepKind::Test, "make|gmake|ninja", "test*"),
    (StepKind::Test, "make|gmake|ninja", "check*"),
    (StepKind::Test, "mvn|mvnw", "test|verify|integration-test"),
    (StepKind::Test, "gradle|gradlew", "test|check|connectedcheck"),
    (StepKind::Test, "dotnet|swift|deno|bazel", "test"),
    (StepKind::Test, "rake", "test*"),
    (StepKind::Build, "cargo", "build|b|check|c|clippy|doc|rustc"),
    (StepKind::Build, "make|gmake|cmake|ninja|meson|scons|bazel", ""),
    (StepKind::Build, "gcc|g++|cc|c++|clang|clang++|rustc|javac|ghc|tsc|webpack|rollup|esbuild|ld", ""),
    (StepKind::Build, "vite|next|nuxt|astro|ng", "build"),
    (StepKind::Build, "go", "build|vet|generate"),
    (StepKind::Build, "mvn|mvnw", "package|compile|install|site"),
    (StepKind::Build, "gradle|gradlew", "build|assemble|jar|classes|compile*"),
    (StepKind::Build, "dotnet|swift", "build|publish"),
    (StepKind::Build, "docker|podman|buildah", "build|buildx"),
    (StepKind::Build, "docker|podman", "compose build"),
];

/// Programs that run another one: `sudo npm ci` is an install. With how many words of their own behind their options.
const WRAPPERS: &[(&str, usize)] = &[
    ("sudo", 0),
    ("env", 0),
    ("time", 0),
    ("nice", 0),
    ("ionice", 0),
    ("nohup", 0),
    ("stdbuf", 0),
    ("command", 0),
    ("exec", 0),
    ("xargs", 0),
    ("setsid", 0),
    ("timeout", 1),
    ("then", 0),
    ("do", 0),
    ("else", 0),
    ("!", 0),
    ("{", 0),
    ("(", 0),
];

/// Options of wrappers and programs that take the next word with them.
const VALUED: &[&str] =
    &["-n", "-u", "-C", "-s", "-k", "-o", "-e", "-i", "--signal", "--prefix", "--dir", "--cwd", "-f"];

/// How deep `sh -c` inside `sh -c` is looked into.
const DEPTH: usize = 4;

/// The command line inside `/bin/bash -lc '…'`, or the line itself.
pub(crate) fn inner(command: &str) -> String {
    unwrap(command).unwrap_or_else(|| command.to_owned())
}

fn unwrap(command: &str) -> Option<String> {
    let words = shell_words::split(command).ok()?;
    let [program, options @ .., script] = words.as_slice() else { return None };
    let shell = matches!(base(program), "sh" | "bash" | "zsh" | "dash" | "ash");
    let all_options = options.iter().all(|word| word.starts_with('-'));
    let runs = options.last().is_some_and(|word| word.ends_with('c') && !word.starts_with("--"));
    (shell && all_options && runs).then(|| script.clone())
}

/// The kind of a command line.
pub(crate) fn kind(command: &str) -> StepKind {
    classify(command, DEPTH)
}

fn classify(command: &str, depth: usize) -> StepKind {
    if let Some(script) = unwrap(command).filter(|_| depth > 0) {
        return classify(&script, depth - 1);
    }
    let kinds: Vec<StepKind> = parts(command).iter().filter_map(|part| part_kind(part, depth)).collect();
    ORDER.into_iter().find(|kind| kinds.contains(kind)).unwrap_or(StepKind::Command)
}

/// Splits a chain at its operators, outside of quotes.
fn parts(command: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        let part = parts.last_mut();
        match (quote, c) {
            (None, ';' | '|' | '&' | '\n') => parts.push(String::new()),
            (_, '\\') if quote != Some('\'') => {
                if let Some(part) = part {
                    part.push(c);
                    part.extend(chars.next());
                }
            }
            _ => {
                quote = match quote {
                    None if matches!(c, '\'' | '"') => Some(c),
                    Some(open) if open == c => None,
                    other => other,
                };
                if let Some(part) = part {
                    part.push(c);
                }
            }
        }
    }
    parts
}

/// The kind of one simple command, where the table knows it.
fn part_kind(part: &str, depth: usize) -> Option<StepKind> {
    let words =
        shell_words::split(part).unwrap_or_else(|_| part.split_whitespace().map(str::to_owned).collect());
    let mut words: Vec<&str> = words.iter().map(|word| word.trim_start_matches(['(', '{'])).collect();
    words.retain(|word| !word.is_empty());
    let words = look_through(&words);
    let (program, rest) = words.split_first()?;
    let program = base(program);
    if matches!(program, "sh" | "bash" | "zsh" | "dash") && depth > 0 {
        let kind = classify(&shell_words::join(words), depth - 1);
        return (kind != StepKind::Command).then_some(kind);
    }
    if program.starts_with("python") {
        // `python -m pytest` is pytest.
        let at = rest.iter().position(|word| *word == "-m")?;
        return match *rest.get(at + 1)? {
            "unittest" => Some(StepKind::Test),
            module => look_up(module, &rest[at + 2..]),
        };
    }
    look_up(program, rest)
}

/// Drops leading assignments and the programs that only run another one.
fn look_through<'a>(mut words: &'a [&'a str]) -> &'a [&'a str] {
    loop {
        let Some((first, rest)) = words.split_first() else { return words };
        if is_assignment(first) {
            words = rest;
            continue;
        }
        let Some((_, own)) = WRAPPERS.iter().find(|(name, _)| *name == base(first)) else { return words };
        let options = skip_options(rest);
        words = options.get(*own..).unwrap_or_default();
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

fn skip_options<'a>(mut words: &'a [&'a str]) -> &'a [&'a str] {
    while let Some((first, rest)) = words.split_first() {
        if !first.starts_with('-') {
            return words;
        }
        words = if VALUED.contains(first) { rest.get(1..).unwrap_or_default() } else { rest };
    }
    words
}

fn look_up(program: &str, words: &[&str]) -> Option<StepKind> {
    let found = TABLE.iter().find(|(_, programs, pattern)| {
        programs.split('|').any(|name| name == program) && fits(pattern, words)
    });
    found.map(|(kind, ..)| *kind)
}

/// Whether the words of the pattern are the first words that are no options.
fn fits(pattern: &str, words: &[&str]) -> bool {
    let mut words = words;
    pattern.split_whitespace().all(|alternatives| {
        words = skip_options(words);
        let Some((word, rest)) = words.split_first() else { return false };
        words = rest;
        alternatives.split('|').any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => word.starts_with(beginning),
            None => *word == wanted,
        })
    })
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
