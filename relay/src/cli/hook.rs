//! `relay hook`

#![expect(clippy::disallowed_methods, reason = "the file is the one that the host agent names")]

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use jiff::Timestamp;

use super::global::Global;
use super::help::after_help;
use super::notices;
use crate::exit::{Code, Failure};
use crate::hook::call::{self, Call, Event};
use crate::hook::decide::{self, NoticeOwner, Response};
use crate::project;
use crate::registry::outbox::{Entry, Shown};
use crate::registry::sessions::{self, Phase, SessionState};
use crate::registry::unseen::{self, Unseen};
use crate::registry::{Registry, lease, read};
use crate::render::Output;

/// Maximum size of a call's JSON, in bytes: it contains the answer of a tool, which may be a picture.
const MAX_CALL: u64 = 16 << 20;
/// Maximum number of notices per call: Claude Code accepts 10,000 characters, and a notice has up to 2 KiB.
const MAX_NOTICES: usize = 4;

/// Flags of `relay hook`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Reads the hook's JSON on stdin and answers in JSON. SessionStart, UserPromptSubmit and PostToolUse \
     tell the session which jobs have ended; Stop reports them before the turn ends. Never fails, so \
     that it never disturbs the session. `relay init` installs it.",
    ["relay hook SessionStart < call.json", "relay hook < call.json"]
))]
pub struct HookArgs {
    /// Event [default: that of the JSON]
    #[arg(value_name = "EVENT")]
    event: Option<String>,
}

/// Answers the call of a hook. The exit code is 0 after every error: a hook must not break its host.
#[expect(clippy::unnecessary_wraps, reason = "the form of every command")]
pub fn run(args: &HookArgs, global: &Global) -> Result<Code, Failure> {
    let output = Output::new(global.color, true);
    if let Err(why) = answer(args, global, &output) {
        output.note(&format!("hook: {why}"));
    }
    Ok(Code::Done)
}

fn answer(args: &HookArgs, global: &Global, output: &Output) -> Result<(), String> {
    let json = stdin().map_err(|e| format!("stdin can't be read: {e}"))?;
    let claude = env::var_os("CLAUDE_PROJECT_DIR").is_some() || env::var_os("CLAUDECODE").is_some();
    let call = call::read(args.event.as_deref(), &json, claude)
        .map_err(|why| format!("stdin is not a hook call: {why}"))?;
    if call.event == Some(Event::SessionStart) && call.agent == "claude" {
        name_session(&call);
    }
    // Hooks are installed per person, and also called in folders without a relay project.
    let Ok(root) = project::find_root(global.project().as_deref(), &call.cwd) else { return Ok(()) };
    let registry = Registry::for_project(&root);
    if !registry.folder().is_there().map_err(|e| e.to_string())? {
        return Ok(());
    }
    let plan = decide::plan(&call);
    let now = lease::now(&registry);
    // The notices are claimed before the phase is recorded: a reader that sees an idle session must not find a notice
    // that is just being given to it.
    let given = deliver_notices(&registry, &call, plan.give, now, output);
    let phase = if given.as_ref().is_ok_and(|given| *given) && plan.give == Response::Reason {
        Some(Phase::Busy)
    } else {
        plan.phase
    };
    let noted = phase.map_or(Ok(()), |phase| note(&registry, &call, phase, now));
    given.and(noted).map_err(|e| registry.not_writable(&e).message)
}

fn stdin() -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    io::stdin().lock().take(MAX_CALL + 1).read_to_end(&mut json)?;
    if json.len() as u64 > MAX_CALL { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(json) }
}

/// Delivers the notices for the session; returns true if there were any.
fn deliver_notices(
    registry: &Registry,
    call: &Call,
    give: Response,
    now: Timestamp,
    output: &Output,
) -> io::Result<bool> {
    if give == Response::Nothing {
        return Ok(false);
    }
    let ends = ends_for(registry, call, give, now)?;
    if ends.is_empty() {
        return Ok(false);
    }
    let session =
        common::origin::Session { agent: call.agent.to_owned(), id: call.session.clone(), home: None };
    let shown = Shown { at: now, by: "hook".to_owned(), session: Some(session) };
    let taken = unseen::claim_notices(registry, &ends, MAX_NOTICES, Some(&shown))?;
    let Some(answer) = (!taken.records.is_empty()).then(|| answer_of(give, &taken)).flatten() else {
        return Ok(false);
    };
    output.json(&answer);
    if output.is_closed() {
        unseen::release_claims(registry, &taken.records);
    }
    Ok(true)
}

fn answer_of(give: Response, taken: &Unseen) -> Option<serde_json::Value> {
    decide::response(give, &notices::text(taken))
}

/// Returns the notices for this session, oldest first.
fn ends_for(registry: &Registry, call: &Call, give: Response, now: Timestamp) -> io::Result<Vec<Entry>> {
    let mut ends = unseen::unclaimed_notices(registry)?;
    let state = |id: &str| sessions::read(registry, id);
    let whose = |entry: &Entry| decide::whose(entry, &call.session, state, now);
    let mut nobodys = false;
    ends.retain(|entry| match whose(entry) {
        NoticeOwner::Own => true,
        NoticeOwner::Nobodys if give != Response::Reason => {
            nobodys = true;
            true
        }
        _ => false,
    });
    if nobodys && is_worker(registry, &call.session) {
        ends.retain(|entry| whose(entry) == NoticeOwner::Own);
    }
    Ok(ends)
}

/// Returns true if a session is a worker of this project. A worker runs the hooks of the person who launched it, but
/// must not receive notices without an owner.
fn is_worker(registry: &Registry, session: &str) -> bool {
    let Ok(records) = read::records(registry) else { return false };
    let mut running = records.iter().filter(|stored| !stored.record.state.is_final());
    running.any(|stored| stored.record.thread_id.as_deref() == Some(session))
}

fn note(registry: &Registry, call: &Call, phase: Phase, now: Timestamp) -> io::Result<()> {
    if call.event == Some(Event::SessionStart) {
        sessions::forget_old(registry, SystemTime::now());
    }
    let state = SessionState {
        schema: sessions::SCHEMA,
        agent: call.agent.to_owned(),
        id: call.session.clone(),
        phase,
        at: now,
    };
    sessions::note(registry, &state)
}

/// Sets `RELAY_SESSION` for the later commands of a Claude Code session, for versions that do not name the session
/// themselves. Claude Code sources the file that its `SessionStart` hooks may write before each command.
fn name_session(call: &Call) {
    let Some(file) = env::var_os("CLAUDE_ENV_FILE").filter(|file| !file.is_empty()) else { return };
    let line = format!("export RELAY_SESSION=claude:{}\n", call.session);
    let file = OpenOptions::new().append(true).create(true).open(Path::new(&file));
    // Without it the notices of this session's jobs have no owner and are delivered to any session.
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}
