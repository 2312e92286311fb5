//! The real `codex exec` under the agent and without it, against the same scripted model.

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

/// Number of runs of each.
const ROUNDS: usize = 16;
const PROMPT: &str = "[script:quick] Be quick.";

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = Site::new(Engine::Local);
    let model = Model::start(env!("CARGO_BIN_EXE_scripted-model"), "127.0.0.1");
    model.write_codex_home(site.codex_home());
    let codex = programs::codex();
    site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", codex.display()));
    // As usual: the workspace is a repository of its own, which both inspect.
    let git = Command::new("git").args(["init", "--quiet"]).arg(site.workspace()).status()?;
    if !git.success() {
        return Err(format!("git init: {git}").into());
    }
    // HOME for both: the commands are login shells, and the profile of the user who measures must have no influence.
    if !site.command(&["up"]).env("HOME", site.root()).output()?.status.success() {
        return Err(format!("relay up failed: {}", site.daemon_log()).into());
    }
    let mut bare = Samples::default();
    let (mut agent, mut added, mut whole) = (bare.clone(), bare.clone(), bare.clone());
    for round in 0..=ROUNDS {
        stop::pause(Duration::ZERO)?;
        let alone = run_bare(&site, &codex)?;
        let (under_agent, from_launch) = run_as_job(&site)?;
        // The first round warms up the caches.
        if round > 0 {
            bare.push(alone);
            agent.push(under_agent);
            added.push(under_agent.saturating_sub(alone));
            whole.push(from_launch);
        }
    }
    let name = "bare codex exec";
    let bare = bare.median()?;
    report.section(
        &format!("a codex exec of one command against a scripted model, medians of {ROUNDS} rounds in turn"),
        [
            Row::new("codex job: accepted → finished", agent.median()?)
                .beside(name, Ok(bare))
                .target(Target::Times(1.02)),
            Row::new("codex job: what the agent adds, however long it is", added.median()?),
            Row::new("codex job: launched → finished", whole.median()?).beside(name, Ok(bare)),
        ],
    );
    Ok(())
}

/// Runs the agent's command without the agent; returns the time from spawn to exit.
fn run_bare(site: &Site, codex: &std::path::Path) -> Fallible<Duration> {
    let mut command = Command::new(codex);
    command.args(["exec", "--json", "--skip-git-repo-check", "-C"]).arg(site.workspace());
    command.args(["--dangerously-bypass-approvals-and-sandbox", "-c"]);
    command.args(["shell_environment_policy.exclude=[\"CODEX_API_KEY\",\"OPENAI_API_KEY\"]", "-"]);
    // The environment of a worker of engine `local`, as far as it matters here.
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

/// Runs a job under the agent; returns the times from its acceptance by the agent, and from its launch, to its end, by
/// the job's own events.
fn run_as_job(site: &Site) -> Fallible<(Duration, Duration)> {
    let job = crate::crowd::launch(site, PROMPT);
    // `wait` sleeps until the record changes, so it takes no CPU time from the job.
    site.run(&["wait", "--timeout", "30s", &job]);
    let record = site.record(&job);
    if record.state != State::Completed {
        return Err(format!("{job} ended as {:?}: {:?}", record.state, record.error).into());
    }
    let lines = site.events(&job);
    let at = |wanted: fn(&EventBody) -> bool| {
        let event = lines.iter().filter_map(|line| line.event.as_ref()).find(|event| wanted(&event.body));
        event.map(|event| event.at.as_millisecond()).ok_or("an event is missing")
    };
    let finished = at(|body| matches!(body, EventBody::Finished { .. }))?;
    let accepted = at(|body| matches!(body, EventBody::Accepted { .. }))?;
    let launched = at(|body| matches!(body, EventBody::Queued(_)))?;
    let millis = |from: i64| u64::try_from(finished - from).map(Duration::from_millis);
    Ok((millis(accepted)?, millis(launched)?))
}
