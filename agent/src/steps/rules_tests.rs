//! Examples for the table: at least one for each row, and the shapes that real workers write.

use common::job::StepKind::{self, Build, Clone, Command, Fetch, Install, Test};

use super::{TABLE, fits, inner, kind};

const EXAMPLES: &[(StepKind, &str)] = &[
    (Clone, "git clone https://host/x.git"),
    (Clone, "git -C sub pull --rebase"),
    (Clone, "git submodule update --init"),
    (Clone, "gh repo clone a/b"),
    (Clone, "hg clone x"),
    (Test, "npm test"),
    (Test, "npm run test:unit"),
    (Test, "yarn test"),
    (Build, "npm run build"),
    (Build, "pnpm build"),
    (Build, "bun build ./x"),
    (Install, "npm ci --no-audit"),
    (Install, "pnpm i"),
    (Install, "yarn add left-pad"),
    (Install, "npx create-react-app x"),
    (Install, "pip3 install -r requirements.txt"),
    (Install, "python3 -m pip install x"),
    (Install, "uv pip install x"),
    (Install, "uv sync"),
    (Install, "uvx ruff"),
    (Install, "poetry install"),
    (Install, "pipx install x"),
    (Install, "pdm install"),
    (Install, "conda install x"),
    (Install, "cargo fetch"),
    (Install, "rustup target add x"),
    (Install, "go mod download"),
    (Install, "go get x"),
    (Install, "mvn dependency:resolve"),
    (Install, "bundle install"),
    (Install, "gem install x"),
    (Install, "apt-get -y install git"),
    (Install, "apk add git"),
    (Install, "dnf install git"),
    (Install, "brew install x"),
    (Install, "composer require x"),
    (Install, "dotnet restore"),
    (Install, "corepack prepare pnpm"),
    (Fetch, "curl -fsSL https://x"),
    (Fetch, "docker pull debian"),
    (Fetch, "docker compose pull"),
    (Fetch, "skopeo copy a b"),
    (Test, "cargo test --workspace"),
    (Test, "pytest -q"),
    (Test, "python -m pytest"),
    (Test, "python3 -m unittest"),
    (Test, "go test ./..."),
    (Test, "make test"),
    (Test, "make check"),
    (Test, "mvn -q test"),
    (Test, "./gradlew test"),
    (Test, "deno test"),
    (Test, "rake test"),
    (Build, "cargo clippy"),
    (Build, "make -j8"),
    (Build, "make -C sub all"),
    (Build, "gcc -o x x.c"),
    (Build, "vite build"),
    (Build, "go build ./..."),
    (Build, "mvn package"),
    (Build, "./gradlew assemble"),
    (Build, "swift build"),
    (Build, "docker build ."),
    (Build, "docker compose build"),
    (Command, "ls -la"),
    (Command, "git status"),
    (Command, "npm --version"),
    (Command, "echo 'npm install && curl x'"),
    (Command, "python3 script.py"),
    (Command, ""),
    (Command, "'"),
];

#[test]
fn examples_are_of_the_kind_that_people_expect() {
    for (expected, line) in EXAMPLES {
        assert_eq!(kind(line), *expected, "{line}");
    }
}

#[test]
fn every_row_of_the_table_has_an_example() {
    for (row_kind, programs, pattern) in TABLE {
        let covered = EXAMPLES.iter().any(|(_, line)| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.iter().enumerate().any(|(at, word)| {
                let name = word.rsplit('/').next().unwrap_or(word);
                programs.split('|').any(|program| program == name) && fits(pattern, &words[at + 1..])
            })
        });
        assert!(covered, "{row_kind} {programs} {pattern}");
    }
}

#[test]
fn wrappers_assignments_and_chains_are_looked_through() {
    for (expected, line) in [
        (Install, "/bin/bash -lc 'cd app && npm ci'"),
        (Install, "cd app && CI=1 sudo -u worker npm ci"),
        (Install, "timeout 600 nice -n 5 npm install 2>&1 | tail -5"),
        (Install, "env FOO=1 BAR='a b' pip install x"),
        (Test, "cargo build && cargo test"),
        (Install, "npm ci && npm test"),
        (Fetch, "for u in a b; do curl $u; done"),
        (Test, "(cd x; make test)"),
        (Install, "bash -c \"sh -c 'npm ci'\""),
        (Clone, "if true; then git clone x; fi"),
        (Command, "cat <<'EOF'\nhello \"world\nEOF"),
    ] {
        assert_eq!(kind(line), expected, "{line}");
    }
}

#[test]
fn the_line_inside_a_shell_is_what_people_see() {
    assert_eq!(inner("/bin/bash -lc 'echo hi; exit 3'"), "echo hi; exit 3");
    assert_eq!(inner("bash -lc ls"), "ls");
    assert_eq!(inner("git status"), "git status");
    assert_eq!(inner("bash script.sh"), "bash script.sh");
    assert_eq!(inner("bash -lc 'unclosed"), "bash -lc 'unclosed");
}
