//! Tests with arguments of processes as found in `/proc/PID/cmdline`.

use common::job::StepKind::{self, Build, Clone, Fetch, Install, Test};

use super::super::{Classification, Rules};

fn classification(argv: &[&str]) -> Option<Classification> {
    Rules::default().classify_process(&argv.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
}

#[test]
fn a_process_is_classified_by_its_program_whatever_interprets_it() {
    let cases: &[(StepKind, &str, &[&str])] = &[
        (Install, "npm ci", &["node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "ci"]),
        (Install, "npm ci", &["node", "/usr/bin/npm", "ci"]),
        (Install, "npm ci", &["npm ci", "", "", ""]),
        (Install, "npm install left-pad", &["npm install left-pad"]),
        (Install, "pip install x", &["/usr/bin/python3", "/usr/bin/pip", "install", "x"]),
        (Install, "pip install x", &["python3.11", "-u", "-W", "ignore", "-m", "pip", "install", "x"]),
        (
            Install,
            "pip install x",
            &["python3", "/usr/lib/python3/dist-packages/pip/__main__.py", "install", "x"],
        ),
        (
            Install,
            "yarn install",
            &["/usr/bin/node", "--no-warnings", "/opt/yarn-v1.22/bin/yarn.js", "install"],
        ),
        (Install, "pnpm i", &["node", "/usr/lib/node_modules/pnpm/bin/pnpm.cjs", "i"]),
        (Install, "npx create-x", &["node", "/usr/lib/node_modules/npm/bin/npx-cli.js", "create-x"]),
        (Install, "bundle install", &["ruby", "/usr/bin/bundle", "install"]),
        (Install, "composer install", &["php", "-d", "x=1", "/usr/bin/composer", "install"]),
        (Install, "cargo fetch", &["/home/u/.rustup/toolchains/stable/bin/cargo", "fetch"]),
        (Clone, "git clone https://***@host/x", &["git", "clone", "https://u:t@host/x"]),
        (Clone, "git fetch", &["/usr/lib/git-core/git", "fetch"]),
        (Fetch, "curl -H 'a: b' x", &["curl", "-H", "a: b", "x"]),
        (Test, "jest", &["node", "/w/node_modules/.bin/jest"]),
        (Test, "playwright test", &["node", "/w/node_modules/@playwright/test/cli.js", "test"]),
        (Test, "pytest -q", &["/w/.venv/bin/python", "/w/.venv/bin/pytest", "-q"]),
        (Test, "npm exec jest", &["npm exec jest"]),
        (Test, "node --test", &["node", "--test"]),
        (Build, "mvn package", &["/bin/sh", "/usr/bin/mvn", "package"]),
        (
            Build,
            "mvn package",
            &[
                "java",
                "-classpath",
                "x.jar",
                "-Da=b",
                "org.codehaus.plexus.classworlds.launcher.Launcher",
                "package",
            ],
        ),
        (
            Build,
            "gradle build",
            &["java", "-Xmx64m", "-jar", "/w/gradle/wrapper/gradle-wrapper.jar", "build"],
        ),
        (Build, "make all", &["make", "all"]),
        (
            Build,
            "rustc --crate-name x",
            &["/home/u/.rustup/toolchains/stable/bin/rustc", "--crate-name", "x"],
        ),
        (Build, "gcc-12 -c x.c", &["/usr/bin/gcc-12", "-c", "x.c"]),
        (Build, "cargo build", &["cargo", "build"]),
    ];
    for (kind, title, argv) in cases {
        let fetches = title.starts_with("npx ");
        let expected = Classification {
            fetches_program: fetches,
            ..Classification::without_rule(*kind, (*title).to_owned())
        };
        assert_eq!(classification(argv), Some(expected), "{argv:?}");
    }
}

#[test]
fn commands_that_fetch_and_run_a_program_differ_from_installs() {
    for (fetches, line) in [
        (true, "npx vite"),
        (true, "npx -y -p x vite --host"),
        (true, "uvx jupyter lab"),
        (true, "uv tool run ruff"),
        (true, "pipx run x"),
        (true, "npm create vite"),
        (false, "npx"),
        (false, "npx jest"),
        (false, "npm ci"),
        (false, "uv tool install ruff"),
        (false, "pipx install x"),
    ] {
        let argv: Vec<&str> = line.split(' ').collect();
        assert_eq!(classification(&argv).unwrap().fetches_program, fetches, "{line}");
    }
}

#[test]
fn shells_wrappers_helpers_and_unknown_programs_are_not_classified() {
    let cases: &[&[&str]] = &[
        &[],
        &[""],
        &["", "npm", "ci"],
        &["sh", "-c", "npm ci"],
        &["-bash"],
        &["bash", "--login", "-i"],
        &["bash", "-euo", "pipefail", "-c", "make", "test"],
        &["/bin/bash", "./run.sh", "npm", "ci"],
        &["sh", "./make.sh"],
        &["sudo", "npm", "ci"],
        &["timeout", "60", "npm", "ci"],
        &["env", "A=1", "npm", "ci"],
        &["xargs", "curl"],
        &["git-remote-https", "origin", "https://host/x"],
        &["/usr/lib/git-core/git", "remote-https", "origin", "https://host/x"],
        &["git", "index-pack", "--stdin"],
        &["ssh", "git@host", "git-upload-pack 'x'"],
        &["python3", "-c", "import pip", "install"],
        &["python3", "-m"],
        &["python3"],
        &["node", "-e", "x", "npm", "ci"],
        &["node", "/w/server.js"],
        &["/w/node_modules/@esbuild/linux-x64/bin/esbuild", "--service=0.28.2", "--ping"],
        &["java", "-jar", "x.jar"],
        &["tail", "-5"],
        &["sleep", "600"],
        &["/w/target/debug/deps/rules-0a1b2c"],
        &["nginx: worker process"],
        &["/opt/My Program/run npm ci"],
    ];
    for argv in cases {
        assert_eq!(classification(argv), None, "{argv:?}");
    }
}

#[test]
fn only_the_beginning_of_endless_arguments_is_examined() {
    let huge = "x".repeat(1024 * 1024);
    let mut argv = vec!["npm", "ci", huge.as_str()];
    argv.extend(std::iter::repeat_n("y", 100_000));
    assert_eq!(classification(&argv).unwrap().kind, Install);
    assert_eq!(classification(&[&huge]), None);
    assert_eq!(classification(&[&format!("npm ci {huge}")]).unwrap().kind, Install);
}
