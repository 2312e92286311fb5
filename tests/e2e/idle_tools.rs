//! Real development tools that run and then have nothing to do: dev servers, watchers, a test that waits, a daemon, a
//! build that sleeps.
//!
//! The normal run takes a server that every machine has, under a short stall limit. The nightly run takes all tools at
//! the same time, for five minutes under the default limits; `tests/run.sh --nightly` installs them.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::job::StepKind;
use common::record::{JobRecord, State};
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, docker, processes, until_by};
use rustix::fs::{CWD, Mode, mkfifoat};

/// Environment variable with the folder that `ensure_idle_tools` of `tests/lib.sh` has filled.
const TOOLS: &str = "RELAY_TEST_IDLE_TOOLS";
/// Maximum time for a tool to start, to react or to end, while the others do the same on two cores.
const PATIENCE: Duration = Duration::from_secs(180);
/// Idle time of the nightly run, in seconds.
const NIGHTLY_IDLE_S: u64 = 300;
/// The text in the log of a server that listens: the beginning of its address.
const LISTENS: &str = "http://127.0.0.1:";

/// A tool and what it is expected to do.
struct Tool {
    /// Name of the workspace, and so of the job.
    name: &'static str,
    /// Command line. A person expects to read it as the title of the step.
    line: String,
    kind: StepKind,
    /// Files of the workspace.
    files: Vec<(&'static str, String)>,
    /// Text in the log once the tool has nothing more to do.
    ready: &'static str,
    proof: Proof,
    /// True if the tool ends by itself, at the latest after its proof; any other is cancelled.
    ends: bool,
}

/// Proof that a tool still works after the idle time.
enum Proof {
    /// Its server answers a request for this path.
    Serves(&'static str),
    /// After a write to this file, its log continues with this text.
    Reacts(&'static str, &'static str),
    /// The tool ends with success.
    Ends,
}

impl Tool {
    /// Creates a tool that serves pages until it is cancelled.
    fn server(name: &'static str, line: &str, path: &'static str) -> Self {
        Self {
            name,
            line: line.to_owned(),
            kind: StepKind::Command,
            files: Vec::new(),
            ready: LISTENS,
            proof: Proof::Serves(path),
            ends: false,
        }
    }

    fn with_files(mut self, files: &[(&'static str, &str)]) -> Self {
        self.files = files.iter().map(|&(path, text)| (path, text.to_owned())).collect();
        self
    }
}

/// Returns the tool of every run.
fn python_server() -> Tool {
    Tool::server("server", "python3 -u -m http.server --bind 127.0.0.1 0", "/page.html")
        .with_files(&[("page.html", "<p>a page</p>\n")])
}

/// Returns the tools of the nightly run, the one that ends by itself last.
fn all_tools() -> Vec<Tool> {
    let page = ("index.html", "<script type=\"module\" src=\"/main.js\"></script>\n");
    let main = ("main.js", "document.title = \"a page\";\n");
    let dev = ("package.json", "{\"scripts\": {\"dev\": \"vite --host 127.0.0.1 --port 0\"}}\n");
    let npx = format!("npx -y vite@{} --host 127.0.0.1 --port 0", pinned("VITE_VERSION"));
    vec![
        python_server(),
        Tool::server("npx", &npx, "/").with_files(&[page, main]),
        Tool::server("dev", "npm run dev", "/").with_files(&[page, main, dev]),
        Tool::server("lab", "jupyter lab --allow-root --no-browser --port 0", "/api"),
        waiting_test(),
        cargo_watch(),
        gradle_daemon(),
        gradle_continuous(),
        docker_build(),
    ]
}

/// Returns a test that waits for a client of its fixture.
fn waiting_test() -> Tool {
    let code = "import socket\n\nimport pytest\n\n\n\
        @pytest.fixture\n\
        def server():\n    \
            with socket.create_server((\"127.0.0.1\", 0)) as server:\n        \
                print(f\"http://127.0.0.1:{server.getsockname()[1]}/\", flush=True)\n        \
                yield server\n\n\n\
        def test_a_client_comes(server):\n    \
            client, _ = server.accept()\n    \
            with client:\n        \
                client.recv(1000)\n        \
                client.sendall(b\"HTTP/1.0 200 OK\\r\\n\\r\\n\")\n";
    Tool {
        kind: StepKind::Test,
        ends: true,
        ..Tool::server("pytest", "pytest -q -s", "/").with_files(&[("test_server.py", code)])
    }
}

/// Returns a watcher. It ignores every path that contains `target` unless told otherwise, and the site is below `target`.
fn cargo_watch() -> Tool {
    let manifest = "[workspace]\n[package]\nname = \"x\"\nedition = \"2021\"\n";
    Tool {
        ready: "[Finished running. Exit status: 0]",
        proof: Proof::Reacts("src/lib.rs", "[Finished running. Exit status: 0]"),
        ..Tool::server("watch", "cargo watch --ignore-nothing -w src -x check", "")
            .with_files(&[("Cargo.toml", manifest), ("src/lib.rs", "")])
    }
}

/// An archive of one file: a build that needs no compiler and no plugin from the network.
const GRADLE_BUILD: &str =
    "apply plugin: 'base'\ntask pack(type: Zip) { from 'input' }\nassemble.dependsOn pack\n";

/// Returns a daemon that is left behind by a build, while the job waits for something else.
fn gradle_daemon() -> Tool {
    Tool {
        ready: "BUILD SUCCESSFUL",
        proof: Proof::Reacts("go", "IDLE"),
        ends: true,
        ..Tool::server("gradle", "gradle assemble && cat go && gradle --status", "")
            .with_files(&[("build.gradle", GRADLE_BUILD), ("input/text", "one\n")])
    }
}

/// Returns a build that waits, with its daemon, for a change of its input.
fn gradle_continuous() -> Tool {
    Tool {
        kind: StepKind::Build,
        ready: "Waiting for changes to input files",
        proof: Proof::Reacts("input/text", "Waiting for changes to input files"),
        ..Tool::server("continuous", "gradle --continuous assemble", "")
            .with_files(&[("build.gradle", GRADLE_BUILD), ("input/text", "one\n")])
    }
}

fn docker_build() -> Tool {
    let file = format!("FROM debian:bookworm-slim\nRUN sleep {}\n", NIGHTLY_IDLE_S + 15);
    Tool {
        kind: StepKind::Build,
        ready: "RUN sleep",
        proof: Proof::Ends,
        ends: true,
        ..Tool::server("image", "docker build --no-cache --force-rm --iidfile id .", "")
            .with_files(&[("Dockerfile", &file)])
    }
}

/// Returns a version of `docker/versions`.
fn pinned(name: &str) -> &'static str {
    let lines = include_str!("../../docker/versions").lines();
    lines.filter_map(|line| line.split_once('=')).find(|(pin, _)| *pin == name).unwrap().1
}

/// A tool whose job runs.
struct Running<'a> {
    site: &'a Site,
    tool: Tool,
    job: String,
    idle_since: Instant,
}

impl<'a> Running<'a> {
    /// Launches a tool and waits until it has nothing more to do.
    fn launch(site: &'a Site, tool: Tool, more: &[&str]) -> Self {
        let workspace = format!("workspace-projects/{}", tool.name);
        fs::create_dir_all(site.root().join(&workspace)).unwrap();
        for (path, text) in &tool.files {
            site.write(&format!("{workspace}/{path}"), text);
        }
        // Java looks up the user's home itself, and so would share one daemon among all jobs and the user.
        let gradle = format!("GRADLE_USER_HOME={}/{workspace}/user-home", site.root().display());
        let args = ["launch", "-q", "--runner", "shell", "-w", &workspace, "--env", &gradle];
        let job = site.relay(&[&args[..], more, &[&tool.line]].concat()).trim().to_owned();
        let mut running = Self { site, tool, job, idle_since: Instant::now() };
        running.wait_for_log(0, running.tool.ready);
        running.idle_since = Instant::now();
        running
    }

    fn workspace(&self) -> PathBuf {
        self.site.root().join("workspace-projects").join(self.tool.name)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.site.file(&self.job, "log")).unwrap_or_default()).into_owned()
    }

    /// Waits until the log contains a text after its first `start` bytes.
    fn wait_for_log(&self, start: usize, text: &str) {
        until_by(Instant::now() + PATIENCE, &format!("{}: {text}", self.tool.line), || {
            // In this order: a job may print its last line and end between the two.
            let ended = self.site.record(&self.job).state.is_final();
            let log = self.log();
            let found = log.get(start..).is_some_and(|log| log.contains(text));
            assert!(found || !ended, "{} has ended: {log}", self.tool.line);
            found.then_some(())
        });
    }

    /// Checks that the job was not ended.
    fn check_alive(&self) -> JobRecord {
        let record = self.site.record(&self.job);
        assert_eq!(outcome(&record), (State::Running, None), "{record:#?}\n{}", self.log());
        record
    }

    /// Writes the figure: the steps, the idle time, the state and what was reported of the idleness.
    fn report(&self) {
        let record = self.check_alive();
        let steps = record.steps.iter().map(|step| format!("{} \"{}\"", step.kind, step.title));
        let steps: Vec<String> = steps.collect();
        let stalls = self.stalls();
        let reported = if stalls.is_empty() { "never".to_owned() } else { stalls.join(" | ") };
        let (state, idle) = (record.state.as_str(), self.idle_since.elapsed().as_secs());
        figure(&format!(
            "idle tool: {}: {state}, idle for {idle} s, reported: {reported}",
            steps.join(" > ")
        ));
    }

    /// Checks that the only active step is the one that a person expects.
    fn check_step(&self) {
        let record = self.check_alive();
        let step = record.step.as_ref().unwrap();
        let expected = (1, self.tool.kind, self.tool.line.as_str());
        assert_eq!((step.n, step.kind, step.title.as_str()), expected, "{record:#?}");
    }

    /// Returns the evidence of each reported stall.
    fn stalls(&self) -> Vec<String> {
        let events = self.site.events(&self.job).into_iter().filter_map(|line| line.event);
        let stalls = events.filter_map(|event| match event.body {
            EventBody::Stalled { evidence, .. } => Some(evidence),
            _ => None,
        });
        stalls.collect()
    }

    /// Checks that the tool still works, and that its job ends as it should and leaves nothing behind.
    fn finish(&self) {
        match self.tool.proof {
            Proof::Serves(path) => assert_eq!(get(&self.address(), path), 200, "{}", self.tool.line),
            Proof::Reacts(path, text) => {
                let start = self.log().len();
                fs::write(self.workspace().join(path), "// changed\n").unwrap();
                self.wait_for_log(start, text);
            }
            Proof::Ends => {}
        }
        let expected = if self.tool.ends {
            State::Completed
        } else {
            self.site.relay(&["cancel", &self.job]);
            State::Cancelled
        };
        let record = until_by(Instant::now() + PATIENCE, &format!("{} has ended", self.tool.line), || {
            Some(self.site.record(&self.job)).filter(|record| record.state.is_final())
        });
        assert_eq!(outcome(&record), (expected, None), "{record:#?}\n{}", self.log());
        assert_eq!(record.cleanup.map(|cleanup| cleanup.survivors), Some(0));
        assert_eq!(processes::inside(&self.workspace()), []);
    }

    /// Returns the address that the server has printed.
    fn address(&self) -> String {
        let log = self.log();
        let (_, rest) = log.split_once(LISTENS).unwrap();
        let port = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        format!("127.0.0.1:{port}")
    }
}

/// Requests a page and returns the status of the answer.
fn get(address: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // One write, because the server of the waiting test answers after one read.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/html\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

/// Prepares what files alone can't: the installed packages of `npm run dev`, and the pipe that the job with the Gradle
/// daemon waits for.
fn prepare(site: &Site, tools: &Path) {
    let projects = site.root().join("workspace-projects");
    for name in ["dev", "gradle"] {
        fs::create_dir_all(projects.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(tools.join("vite-esbuild/node_modules"), projects.join("dev/node_modules"))
        .unwrap();
    mkfifoat(CWD, projects.join("gradle/go"), Mode::RWXU).unwrap();
    // npx takes the package from the cache, as in every run but the first.
    let cache = tools.join("npm-cache");
    site.write_home(
        ".npmrc",
        &format!("update-notifier=false\nprefer-offline=true\ncache={}\n", cache.display()),
    );
}

#[test]
fn real_tools_that_have_nothing_to_do_are_left_alone() {
    let site = Site::new(Engine::Local);
    site.configure("max_jobs = 10\n[codex]\nsandbox = \"off\"\n");
    let toolchain = Path::new(env!("CARGO")).parent().unwrap().to_owned();
    let mut path = vec![toolchain];
    let nightly = times(false, true);
    if nightly {
        let tools = env::var_os(TOOLS).map(PathBuf::from);
        let tools = tools.unwrap_or_else(|| panic!("{TOOLS} is not set: run ./tests/run.sh --nightly"));
        prepare(&site, &tools);
        path.extend([tools.join("bin"), tools.join("python/bin")]);
    }
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = format!("PATH={}", env::join_paths(path).unwrap().display());
    let stall: &[&str] = times(&["--stall", "2s"], &[]);
    let more = [stall, &["--env", &path]].concat();
    let tools = if nightly { all_tools() } else { vec![python_server()] };
    let running: Vec<_> = tools.into_iter().map(|tool| Running::launch(&site, tool, &more)).collect();
    // The claim is about time itself, so the test waits for nothing else.
    let end = Instant::now() + Duration::from_secs(times(5, NIGHTLY_IDLE_S));
    while Instant::now() < end {
        for tool in &running {
            tool.check_alive();
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
    running.iter().for_each(Running::report);
    running.iter().for_each(Running::check_step);
    // Otherwise the stall limit has not been reached.
    assert!(!running[0].stalls().is_empty(), "{}", running[0].log());
    running.iter().for_each(Running::finish);
    if let Ok(id) = fs::read_to_string(site.root().join("workspace-projects/image/id")) {
        docker::docker_may_fail(&["image", "rm", id.trim()]);
    }
}
