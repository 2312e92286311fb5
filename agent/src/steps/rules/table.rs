//! Table of known programs, with the kind of step that each of their commands is.
//!
//! Format of a row, for example `(Install, "npm|pnpm", "install|ci", "npm ci")`:
//!
//! 1. **The kind of step.** `Clone`: moves a repository over the network. `Install`: fetches dependencies. `Fetch`: any
//!    other download or upload. `Test`: runs tests. `Build`: compiles or bundles.
//! 2. **The program**, without its folder. `|` means "or".
//! 3. **The words after the program**, each as a set of alternatives: `"mod download|tidy"` means first `mod`, then
//!    `download` or `tidy`. A star stands for anything: `test*` is `test`, `tests`, `test:unit`. `""` means that the
//!    words don't matter, `"(none)"` that there are none. Options (`-q`, `--frozen`) between the words don't matter; to
//!    require an option, write it (`"--test"`).
//! 4. **An example** that only this row describes. The tests try it, so a row without a good example fails them.
//!
//! The first matching row decides: put the special case (`npm test`) above the general one. A program in no row is an
//! ordinary command. Only `Clone`, `Install` and `Fetch` fail when they make no progress, so a program belongs there
//! only if it does nothing but use the network. A program that runs another program (`npx`, `poetry run`) is resolved
//! to the other program first (see `matcher.rs`).

use common::job::StepKind::{self, Build, Clone, Fetch, Install, Test};

/// Row of the table: kind, programs, words, example.
pub(super) type Row = (StepKind, &'static str, &'static str, &'static str);

/// Built-in rules. The first matching row decides.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    // Repositories.
    (Clone,   "git",                          "clone|fetch|pull|push|lfs|ls-remote",   "git clone https://host/x.git"),
    (Clone,   "git",                          "submodule update|add",                  "git submodule update --init"),
    (Clone,   "git",                          "remote update",                         "git remote update"),
    (Clone,   "gh",                           "repo clone|fork|sync",                  "gh repo clone a/b"),
    (Clone,   "hg",                           "clone|pull|push",                       "hg clone x"),
    (Clone,   "svn",                          "checkout|co|update|up",                 "svn checkout x"),
    // JavaScript.
    (Test,    "npm|pnpm|bun",                 "test|t|tst",                            "npm test"),
    (Test,    "npm|pnpm|yarn|bun",            "run|run-script test*",                  "npm run test:unit"),
    (Test,    "yarn",                         "test*",                                 "yarn test"),
    (Test,    "node",                         "--test",                                "node --test"),
    (Test,    "deno",                         "test",                                  "deno test"),
    (Install, "playwright|cypress",           "install|install-deps",                  "playwright install chromium"),
    (Test,    "jest|vitest|mocha|ava|karma",  "",                                      "jest --ci"),
    (Test,    "playwright",                   "test",                                  "playwright test"),
    (Test,    "cypress",                      "run",                                   "cypress run"),
    (Build,   "npm|pnpm|yarn|bun",            "run|run-script build*",                 "npm run build"),
    (Build,   "pnpm|yarn",                    "build*",                                "pnpm build"),
    (Build,   "bun",                          "build",                                 "bun build ./x"),
    (Build,   "tsc|webpack|rollup",           "",                                      "tsc -p ."),
    // Only with a file: without one, esbuild is a service that a dev server keeps for as long as it runs.
    (Build,   "esbuild",                      "*",                                     "esbuild app.ts --bundle"),
    (Build,   "vite|next|nuxt|astro|ng|turbo", "build",                                "vite build"),
    (Install, "npm",                          "install|ci|add|i|update|up|exec|x",     "npm ci --no-audit"),
    (Install, "npm",                          "create|init|install-test|it|audit",     "npm create vite"),
    (Install, "pnpm|bun",                     "install|add|i|update|up|dlx|create|x|fetch", "pnpm i"),
    (Install, "yarn",                         "install|add|up|upgrade|dlx|create",     "yarn add left-pad"),
    (Install, "yarn",                         "(none)",                                "yarn --frozen-lockfile"),
    (Install, "npx|bunx|pnpx",                "",                                      "npx create-react-app x"),
    (Install, "corepack",                     "install|prepare|use",                   "corepack prepare pnpm"),
    (Install, "deno",                         "install|cache|add",                     "deno cache main.ts"),
    // Python.
    (Test,    "pytest|py.test|unittest|tox|nox", "",                                   "python3 -m unittest"),
    (Install, "pip",                          "install|download|wheel",                "pip3 install -r requirements.txt"),
    (Install, "uv",                           "pip install|sync|compile",              "uv pip install x"),
    (Install, "uv",                           "sync|add|lock|tool|python",             "uv sync"),
    (Install, "uvx",                          "",                                      "uvx ruff"),
    (Install, "poetry",                       "install|add|update|lock",               "poetry install"),
    (Install, "pipx",                         "install|run|upgrade",                   "pipx install x"),
    (Install, "pdm|pipenv|hatch",             "install|add|update|sync",               "pdm install"),
    (Install, "conda|mamba|micromamba",       "install|create|update|env",             "conda install x"),
    // Rust.
    (Test,    "cargo",                        "test|t|nextest|bench",                  "cargo test --workspace"),
    (Install, "cargo",                        "fetch|install|add|update|vendor|binstall", "cargo fetch"),
    (Install, "rustup",                       "install|update|toolchain|component|target", "rustup target add x"),
    (Build,   "cargo",                        "build|b|check|c|clippy|doc|d|rustc",    "cargo +nightly clippy"),
    (Build,   "rustc|rustdoc|clippy-driver",  "",                                      "rustc x.rs"),
    // Go.
    (Test,    "go",                           "test",                                  "go test ./..."),
    (Install, "go",                           "mod download|tidy|vendor",              "go mod download"),
    (Install, "go",                           "get|install",                           "go get x"),
    (Build,   "go",                           "build|vet|generate",                    "go build ./..."),
    // Java.
    (Install, "mvn|mvnw",                     "dependency:*",                          "mvn dependency:resolve"),
    (Test,    "mvn|mvnw",                     "test|verify|integration-test",          "mvn -q clean test"),
    (Build,   "mvn|mvnw",                     "package|compile|install|site|deploy",   "mvn package"),
    (Test,    "surefire",                     "",                                      "java org.apache.maven.surefire.booter.ForkedBooter x"),
    (Test,    "gradle|gradlew",               "test*|check|*:test|*:check|connectedcheck", "./gradlew test"),
    (Build,   "gradle|gradlew",               "build|assemble*|jar|classes|compile*|*:build|*:assemble*", "./gradlew assemble"),
    (Build,   "javac|kotlinc|scalac",         "",                                      "javac X.java"),
    // Ruby, PHP, .NET, Swift, Haskell.
    (Install, "bundle|bundler",               "install|update|add",                    "bundle install"),
    (Install, "bundle|bundler",               "(none)",                                "bundle"),
    (Install, "gem",                          "install|update",                        "gem install x"),
    (Test,    "rspec|phpunit|prove",          "",                                      "rspec spec"),
    (Test,    "rake",                         "test*|spec*",                           "rake test"),
    (Install, "composer",                     "install|update|require",                "composer require x"),
    (Install, "dotnet",                       "restore",                               "dotnet restore"),
    (Test,    "dotnet|swift",                 "test",                                  "dotnet test"),
    (Build,   "dotnet|swift",                 "build|publish",                         "swift build"),
    (Build,   "ghc",                          "",                                      "ghc Main.hs"),
    // Packages of the system.
    (Install, "apt|apt-get|aptitude",         "install|update|upgrade|dist-upgrade|build-dep", "apt-get -y install git"),
    (Install, "apk",                          "add|update|upgrade",                    "apk add git"),
    (Install, "dnf|yum|microdnf|zypper",      "install|update|upgrade|in|up",          "dnf install git"),
    (Install, "brew",                         "install|update|upgrade",                "brew install x"),
    // Other transfers.
    (Fetch,   "curl|wget|rsync|scp|sftp|aria2c", "",                                   "curl -fsSL https://x"),
    (Fetch,   "docker|podman",                "pull|push|login",                       "docker pull debian"),
    (Fetch,   "docker|podman",                "compose pull|push",                     "docker compose -f x.yml pull"),
    (Fetch,   "docker-compose",               "pull|push",                             "docker-compose pull"),
    (Fetch,   "skopeo|crane|oras",            "",                                      "skopeo copy a b"),
    // Everything that is built with make, compilers and images.
    (Test,    "make|gmake|ninja",             "test*|check*",                          "make -j 8 test"),
    (Test,    "ctest",                        "",                                      "ctest"),
    (Test,    "meson|bazel",                  "test",                                  "bazel test //..."),
    (Build,   "make|gmake|cmake|ninja|meson|scons|bazel", "",                          "make -C sub all"),
    (Build,   "gcc|g++|cc|c++|clang|clang++|ld|lld|cc1|cc1plus", "",                   "gcc-12 -o x x.c"),
    (Build,   "docker|podman|buildah",        "build|buildx",                          "docker build ."),
    (Build,   "docker|podman",                "compose build",                         "docker compose build"),
    (Build,   "docker-compose",               "build",                                 "docker-compose build"),
];
