//! The command `relay hook`.

#![expect(clippy::disallowed_methods, reason = "the host agent names the file")]

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
use crate::exit::{ExitCode, Failure};
use crate::hook::call::{self, HookCall, HookEvent};
use crate::hook::decide::{self, HookResponse, NoticeOwner};
use crate::project;
use crate::registry::outbox::{NoticeClaim, OutboxEntry};
use crate::registry::sessions::{self, SessionPhase, SessionState};
use crate::registry::unseen::{self, ClaimedNotices};
use crate::registry::{Registry, lease, read};
use crate::render::CommandOutput;

/// Maximum size of the JSON of a hook call, in bytes. The JSON may contain the result of a tool, such as an image.
const MAX_CALL_SIZE: u64 = 16 << 20;
/// Maximum number of notices in an answer: Claude Code accepts 10,000 characters, and a notice has up to 2 KiB.
const MAX_NOTICES: usize = 4;

/// Flags of `relay hook`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Reads the hook's JSON on stdin and answers in JSON. SessionStart, UserPromptSubmit and PostToolUse \
     tell the session which jobs have ended; Stop reports them before the turn ends. A hook never fails, so \
     that it never disturbs the session. `relay init` installs the hooks.",
    ["relay hook SessionStart < call.json", "relay hook < call.json"]
))]
pub struct HookArgs {
    /// Event [default: the event in the JSON]
    #[arg(value_name = "EVENT")]
    event: Option<String>,
}

/// Answers the call of a hook. The exit code is always 0: a failed hook would disturb the host agent.
#[expect(clippy::unnecessary_wraps, reason = "all commands have this signature")]
pub fn run(args: &HookArgs, global: &Global) -> Result<ExitCode, Failure> {
    let output = CommandOutput::new(global.color, true);
    if let Err(why) = answer_call(args, global, &output) {
        output.print_note(&format!("hook: {why}"));
    }
    Ok(ExitCode::Done)
}

fn answer_call(args: &HookArgs, global: &Global, output: &CommandOutput) -> Result<(), String> {
    let json = read_stdin().map_err(|e| format!("stdin can't be read: {e}"))?;
    let is_claude = env::var_os("CLAUDE_PROJECT_DIR").is_some() || env::var_os("CLAUDECODE").is_some();
    let call = call::parse_call(args.event.as_deref(), &json, is_claude)
        .map_err(|why| format!("stdin is not a hook call: {why}"))?;
    if call.event == Some(HookEvent::SessionStart) && call.agent == "claude" {
        set_session_variable(&call);
    }
    // Hooks are installed per person, and also called in folders without a relay project.
    let Ok(root) = project::find_root(global.project_root().as_deref(), &call.cwd) else { return Ok(()) };
    let registry = Registry::for_project(&root);
    if !registry.folder().exists().map_err(|e| e.to_string())? {
        return Ok(());
    }
    let plan = decide::decide_hook(&call);
    let now = lease::current_time(&registry);
    // The notices are claimed before the phase is recorded, so that no reader sees an idle session and an unclaimed
    // notice that this call is delivering.
    let delivered = deliver_notices(&registry, &call, plan.response, now, output);
    let phase = if delivered.as_ref().is_ok_and(|delivered| *delivered)
        && plan.response == HookResponse::ContinueTurn
    {
        Some(SessionPhase::Busy)
    } else {
        plan.phase
    };
    let recorded = phase.map_or(Ok(()), |phase| record_phase(&registry, &call, phase, now));
    delivered.and(recorded).map_err(|e| registry.not_writable(&e).message)
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    io::stdin().lock().take(MAX_CALL_SIZE + 1).read_to_end(&mut json)?;
    if json.len() as u64 > MAX_CALL_SIZE { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(json) }
}

/// Prints the notices for the calling session as the answer of the hook. Returns true if there were any.
fn deliver_notices(
    registry: &Registry,
    call: &HookCall,
    response_kind: HookResponse,
    now: Timestamp,
    output: &CommandOutput,
) -> io::Result<bool> {
    if response_kind == HookResponse::Nothing {
        return Ok(false);
    }
    let notices = notices_for(registry, call, response_kind, now)?;
    if notices.is_empty() {
        return Ok(false);
    }
    let session =
        common::origin::Session { agent: call.agent.to_owned(), id: call.session.clone(), home: None };
    let claim = NoticeClaim { at: now, by: "hook".to_owned(), session: Some(session) };
    let claimed = unseen::claim_notices(registry, &notices, MAX_NOTICES, Some(&claim))?;
    let Some(answer) = (!claimed.records.is_empty()).then(|| answer_json(response_kind, &claimed)).flatten()
    else {
        return Ok(false);
    };
    output.print_json(&answer);
    if output.is_closed() {
        unseen::release_claims(registry, &claimed.records);
    }
    Ok(true)
}

fn answer_json(response_kind: HookResponse, notices: &ClaimedNotices) -> Option<serde_json::Value> {
    decide::response_json(response_kind, &notices::format_notices(notices))
}

/// Returns the unclaimed notices for the calling session, oldest first.
fn notices_for(
    registry: &Registry,
    call: &HookCall,
    response_kind: HookResponse,
    now: Timestamp,
) -> io::Result<Vec<OutboxEntry>> {
    let mut notices = unseen::unclaimed_notices(registry)?;
    let state = |id: &str| sessions::read_session(registry, id);
    let owner_of = |entry: &OutboxEntry| decide::notice_owner(entry, &call.session, state, now);
    let mut has_unowned = false;
    notices.retain(|entry| match owner_of(entry) {
        NoticeOwner::Caller => true,
        NoticeOwner::Unowned if response_kind != HookResponse::ContinueTurn => {
            has_unowned = true;
            true
        }
        _ => false,
    });
    if has_unowned && is_worker(registry, &call.session) {
        notices.retain(|entry| owner_of(entry) == NoticeOwner::Caller);
    }
    Ok(notices)
}

/// Returns true if a session is a worker of this project. A worker runs the hooks of the person who launched it, but
/// must not receive notices.
fn is_worker(registry: &Registry, session: &str) -> bool {
    let Ok(records) = read::read_records(registry) else { return false };
    let mut running = records.iter().filter(|stored| !stored.record.state.is_final());
    running.any(|stored| stored.record.thread_id.as_deref() == Some(session))
}

fn record_phase(registry: &Registry, call: &HookCall, phase: SessionPhase, now: Timestamp) -> io::Result<()> {
    if call.event == Some(HookEvent::SessionStart) {
        sessions::remove_old_sessions(registry, SystemTime::now());
    }
    let state = SessionState {
        schema: sessions::SCHEMA_VERSION,
        agent: call.agent.to_owned(),
        id: call.session.clone(),
        phase,
        at: now,
    };
    sessions::store_session(registry, &state)
}

/// Sets `RELAY_SESSION` for later commands of a Claude Code session, for versions that set no session id.
/// `SessionStart` hooks may write a file that Claude Code sources before each command.
fn set_session_variable(call: &HookCall) {
    let Some(file) = env::var_os("CLAUDE_ENV_FILE").filter(|file| !file.is_empty()) else { return };
    let line = format!("export RELAY_SESSION=claude:{}\n", call.session);
    let file = OpenOptions::new().append(true).create(true).open(Path::new(&file));
    // Without the variable, the jobs of this session have no owner, and any session receives their notices.
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}
