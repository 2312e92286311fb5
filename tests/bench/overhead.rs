//! Overhead of the agent: durations of the real `codex exec` with and without it, with the same scripted model.

use std::env;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::State;
use relay_tests::harness::model::Model;
use relay_tests::harness::{Engine, Site, programs};

use crate::samples::Samples;
use crate::table::{Report, Row, Target};
use crate::{Fallible, stop};

/// Number of measured runs with the agent, and without it.
const ROUNDS: usize = 16;
const PROMPT: &str = "[script:quick] Be quick.";

/// Measures the group `overhead` and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = Site::new(Engine::Local);
    let model = Model::start(env!("CARGO_BIN_EXE_scripted-model"), "127.0.0.1");
    model.write_codex_home(site.codex_home());
    let codex = programs::codex();
    site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", codex.display()));
    // A workspace usually is a repository, which Codex and the agent inspect.
    let status = Command::new("git").args(["init", "--quiet"]).arg(site.workspace()).status()?;
    if !status.success() {
        return Err(format!("git init: {status}").into());
    }
    // Codex runs commands in login shells. With this HOME they read no profile of the user, with the agent and without.
    if !site.command(&["up"]).env("HOME", site.root()).output()?.status.success() {
        return Err(format!("relay up failed: {}", site.daemon_log()).into());
    }
    let mut bare_times = Samples::default();
    let (mut job_times, mut added_times, mut total_times) =
        (bare_times.clone(), bare_times.clone(), bare_times.clone());
    for round in 0..=ROUNDS {
        stop::pause(Duration::ZERO)?;
        let bare = run_bare(&site, &codex)?;
        let (from_acceptance, from_launch) = run_as_job(&site)?;
        // The first round warms up the caches.
        if round > 0 {
            bare_times.push(bare);
            job_times.push(from_acceptance);
            added_times.push(from_acceptance.saturating_sub(bare));
            total_times.push(from_launch);
        }
    }
    let name = "bare codex exec";
    let bare = bare_times.median()?;
    report.section(
        &format!("a codex exec of one command against a scripted model, medians of {ROUNDS} rounds in turn"),
        [
            Row::new("codex job: accepted → finished", job_times.median()?)
                .beside(name, Ok(bare))
                .target(Target::Times(1.02)),
            Row::new("codex job: what the agent adds, however long it is", added_times.median()?),
            Row::new("codex job: launched → finished", total_times.median()?).beside(name, Ok(bare)),
        ],
    );
    Ok(())
}

/// Runs Codex with the arguments that the agent uses, but without the agent; returns the time from spawn to exit.
fn run_bare(site: &Site, codex: &std::path::Path) -> Fallible<Duration> {
    let mut command = Command::new(codex);
    command.args(["exec", "--json", "--skip-git-repo-check", "-C"]).arg(site.workspace());
    command.args(["--dangerously-bypass-approvals-and-sandbox", "-c"]);
    command.args(["shell_environment_policy.exclude=[\"CODEX_API_KEY\",\"OPENAI_API_KEY\"]", "-"]);
    // The variables of a worker of engine `local` that affect Codex.
    command.env_clear().env("HOME", site.root()).env("CODEX_HOME", site.codex_home());
    command.envs(["PATH", "LANG"].into_iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command.current_dir(site.workspace());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(PROMPT.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(begun.elapsed()) } else { Err(format!("codex exec: {status}").into()) }
}

/// Runs a Codex job. Returns the times to the job's end, from the acceptance by the agent and from the launch, by the
/// times of the job's events.
fn run_as_job(site: &Site) -> Fallible<(Duration, Duration)> {
    let job = crate::crowd::launch(site, PROMPT);
    // `wait` sleeps until the record changes, so it takes no CPU time from the job.
    site.run(&["wait", "--timeout", "30s", &job]);
    let record = site.record(&job);
    if record.state != State::Completed {
        return Err(format!("{job} ended as {:?}: {:?}", record.state, record.error).into());
    }
    let lines = site.events(&job);
    let time_of = |matches: fn(&EventBody) -> bool| {
        let event = lines.iter().filter_map(|line| line.event.as_ref()).find(|event| matches(&event.body));
        event.map(|event| event.at.as_millisecond()).ok_or("an event is missing")
    };
    let finished = time_of(|body| matches!(body, EventBody::Finished { .. }))?;
    let accepted = time_of(|body| matches!(body, EventBody::Accepted { .. }))?;
    let launched = time_of(|body| matches!(body, EventBody::Queued(_)))?;
    let millis = |from: i64| u64::try_from(finished - from).map(Duration::from_millis);
    Ok((millis(accepted)?, millis(launched)?))
}
