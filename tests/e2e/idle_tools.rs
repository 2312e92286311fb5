//! Idle tools: real development tools that start and then have nothing to do. relay must not end them. They are
//! servers, watchers, a waiting test, a daemon and a sleeping build.
//!
//! The normal run uses a server that every machine has, with a short stall limit. The nightly run uses all tools at the
//! same time, for five minutes and with the default limits; `tests/run.sh --nightly` installs them.

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

/// Environment variable with the folder into which `ensure_idle_tools` of `tests/lib.sh` installs the tools.
const TOOLS: &str = "RELAY_TEST_IDLE_TOOLS";
/// Maximum time for a tool to start, to react or to end, while all other tools do the same.
const PATIENCE: Duration = Duration::from_secs(180);
/// Idle time of the nightly run, in seconds.
const NIGHTLY_IDLE_S: u64 = 300;
/// Beginning of the address that a server prints when it listens.
const ADDRESS_START: &str = "http://127.0.0.1:";

/// A tool, with the behaviour that the test expects.
struct Tool {
    /// Name of the workspace and of the job.
    name: &'static str,
    /// Command line of the job, which must be the title of its step.
    line: String,
    kind: StepKind,
    /// Files of the workspace, with their content.
    files: Vec<(&'static str, String)>,
    /// Text in the log that shows that the tool has nothing more to do.
    ready: &'static str,
    proof: Proof,
    /// True if the tool ends by itself, at the latest after the proof. Otherwise its job is cancelled.
    ends_by_itself: bool,
}

/// Proof that a tool still works after the idle time.
enum Proof {
    /// The tool's server answers a request for this path.
    Serves(&'static str),
    /// After a write to a file (the first text), the log continues with the second text.
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
            ready: ADDRESS_START,
            proof: Proof::Serves(path),
            ends_by_itself: false,
        }
    }

    fn with_files(mut self, files: &[(&'static str, &str)]) -> Self {
        self.files = files.iter().map(|&(path, text)| (path, text.to_owned())).collect();
        self
    }
}

/// Returns the only tool of the normal run.
fn python_server() -> Tool {
    Tool::server("server", "python3 -u -m http.server --bind 127.0.0.1 0", "/page.html")
        .with_files(&[("page.html", "<p>a page</p>\n")])
}

/// Returns the tools of the nightly run.
fn all_tools() -> Vec<Tool> {
    let page = ("index.html", "<script type=\"module\" src=\"/main.js\"></script>\n");
    let main = ("main.js", "document.title = \"a page\";\n");
    let dev = ("package.json", "{\"scripts\": {\"dev\": \"vite --host 127.0.0.1 --port 0\"}}\n");
    let npx = format!("npx -y vite@{} --host 127.0.0.1 --port 0", pinned_version("VITE_VERSION"));
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

/// Returns a test of pytest that waits for a client.
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
        ends_by_itself: true,
        ..Tool::server("pytest", "pytest -q -s", "/").with_files(&[("test_server.py", code)])
    }
}

/// Returns a watcher of source files. By default `cargo watch` ignores paths that contain `target`, where the site is.
fn cargo_watch() -> Tool {
    let manifest = "[workspace]\n[package]\nname = \"x\"\nedition = \"2021\"\n";
    Tool {
        ready: "[Finished running. Exit status: 0]",
        proof: Proof::Reacts("src/lib.rs", "[Finished running. Exit status: 0]"),
        ..Tool::server("watch", "cargo watch --ignore-nothing -w src -x check", "")
            .with_files(&[("Cargo.toml", manifest), ("src/lib.rs", "")])
    }
}

/// Build file that makes an archive, because this needs no compiler and no plugin from the network.
const GRADLE_BUILD: &str =
    "apply plugin: 'base'\ntask pack(type: Zip) { from 'input' }\nassemble.dependsOn pack\n";

/// Returns a build that leaves a daemon behind; the job then waits for a pipe.
fn gradle_daemon() -> Tool {
    Tool {
        ready: "BUILD SUCCESSFUL",
        proof: Proof::Reacts("go", "IDLE"),
        ends_by_itself: true,
        ..Tool::server("gradle", "gradle assemble && cat go && gradle --status", "")
            .with_files(&[("build.gradle", GRADLE_BUILD), ("input/text", "one\n")])
    }
}

/// Returns a build that waits, together with its daemon, for a change of the input.
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
        ends_by_itself: true,
        ..Tool::server("image", "docker build --no-cache --force-rm --iidfile id .", "")
            .with_files(&[("Dockerfile", &file)])
    }
}

/// Returns the value of `name` in `docker/versions`.
fn pinned_version(name: &str) -> &'static str {
    let lines = include_str!("../../docker/versions").lines();
    lines.filter_map(|line| line.split_once('=')).find(|(pin, _)| *pin == name).unwrap().1
}

/// A tool whose job is running.
struct RunningTool<'a> {
    site: &'a Site,
    tool: Tool,
    job: String,
    idle_since: Instant,
}

impl<'a> RunningTool<'a> {
    /// Launches a tool and waits until it has nothing more to do.
    fn launch(site: &'a Site, tool: Tool, flags: &[&str]) -> Self {
        let workspace = format!("workspace-projects/{}", tool.name);
        fs::create_dir_all(site.root().join(&workspace)).unwrap();
        for (path, text) in &tool.files {
            site.write(&format!("{workspace}/{path}"), text);
        }
        // Without this variable Gradle shares one daemon among all jobs and the user.
        let gradle = format!("GRADLE_USER_HOME={}/{workspace}/user-home", site.root().display());
        let args = ["launch", "-q", "--runner", "shell", "-w", &workspace, "--env", &gradle];
        let job = site.relay(&[&args[..], flags, &[&tool.line]].concat()).trim().to_owned();
        let mut running = Self { site, tool, job, idle_since: Instant::now() };
        running.wait_for_log(0, running.tool.ready);
        running.idle_since = Instant::now();
        running
    }

    fn workspace(&self) -> PathBuf {
        self.site.root().join("workspace-projects").join(self.tool.name)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.site.file_path(&self.job, "log")).unwrap_or_default())
            .into_owned()
    }

    /// Waits until the log contains a text after its first `start` bytes.
    fn wait_for_log(&self, start: usize, text: &str) {
        until_by(Instant::now() + PATIENCE, &format!("{}: {text}", self.tool.line), || {
            // The state is read before the log, because the job may print the text and end between both.
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

    /// Writes the figure: steps, state, idle time and reported stalls.
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

    /// Checks that the active step is the tool's command line.
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

    /// Checks that the tool still works, that its job then ends as expected, and that no process is left.
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
        let expected = if self.tool.ends_by_itself {
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
        let (_, rest) = log.split_once(ADDRESS_START).unwrap();
        let port = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        format!("127.0.0.1:{port}")
    }
}

/// Requests a page and returns the status of the answer.
fn get(address: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The request is a single write, because the server of the waiting test answers after one read.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/html\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

/// Prepares packages for `npm run dev`, a pipe for the job with the Gradle daemon, and a cache for npx.
fn prepare(site: &Site, tools: &Path) {
    let projects = site.root().join("workspace-projects");
    for name in ["dev", "gradle"] {
        fs::create_dir_all(projects.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(tools.join("vite-esbuild/node_modules"), projects.join("dev/node_modules"))
        .unwrap();
    mkfifoat(CWD, projects.join("gradle/go"), Mode::RWXU).unwrap();
    // npx takes its package from the cache.
    let cache = tools.join("npm-cache");
    site.write_home(
        ".npmrc",
        &format!("update-notifier=false\nprefer-offline=true\ncache={}\n", cache.display()),
    );
}

#[test]
fn real_tools_that_have_nothing_to_do_are_not_ended() {
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
    let running: Vec<_> = tools.into_iter().map(|tool| RunningTool::launch(&site, tool, &more)).collect();
    // The tools must survive this time, so the test waits for nothing else.
    let end = Instant::now() + Duration::from_secs(times(5, NIGHTLY_IDLE_S));
    let give_up = end + PATIENCE;
    // A reported stall proves that the stall limit was reached.
    while Instant::now() < end || running[0].stalls().is_empty() {
        for tool in &running {
            tool.check_alive();
        }
        assert!(Instant::now() < give_up, "{}", running[0].log());
        std::thread::park_timeout(Duration::from_secs(1));
    }
    running.iter().for_each(RunningTool::report);
    running.iter().for_each(RunningTool::check_step);
    running.iter().for_each(RunningTool::finish);
    if let Ok(id) = fs::read_to_string(site.root().join("workspace-projects/image/id")) {
        docker::docker_may_fail(&["image", "rm", id.trim()]);
    }
}
