//! The command `relay init`.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::global::Global;
use super::help::after_help;
use super::session;
use crate::approval::{self, ApprovableSettings};
use crate::config::{self, Config};
use crate::exit::{ExitCode, Failure};
use crate::init::{self, AgentHomes, FileOutcome, InitPlan, InitRequest, Mode, PlannedFile, WriteFailure};
use crate::project;
use crate::render::CommandOutput;
use crate::{ancestry, start_daemon};

/// Flags of `relay init`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Writes platform/relay.toml, a section in AGENTS.md, a skill, .gitignore lines, and rules that let \
     Codex run `relay up`, `down` and `doctor` outside of its sandbox. Can be repeated: files and \
     sections that were edited are kept. Outside of a project, the current folder becomes one.",
    ["relay init --codex", "relay init --claude --dry-run"]
))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct InitArgs {
    /// Add an MCP server and hooks for Codex
    #[arg(long)]
    codex: bool,
    /// Add an MCP server, hooks, permissions and the section in CLAUDE.md for Claude Code
    #[arg(long)]
    claude: bool,
    /// Write rules, hooks and servers for all your projects (`CODEX_HOME`, ~/.claude)
    #[arg(long)]
    user: bool,
    /// Remove what init wrote; with --user, also for all your projects
    #[arg(long, conflicts_with_all = ["codex", "claude"])]
    remove: bool,
    /// Also replace edited files, with a copy in NAME.before-init
    #[arg(long, conflicts_with = "remove")]
    force: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Output of `relay init --json` about one file.
#[derive(Serialize)]
struct OutcomeLine<'a> {
    path: &'a str,
    outcome: FileOutcome,
    kept: Option<&'a str>,
    dry_run: bool,
}

/// Writes the files that `relay init` manages in a project, or removes them.
///
/// # Errors
/// Exit code 2 if a file can't be merged, 5 if one can't be read; nothing is written then. Exit code 5 if one can't be
/// written; the message says if others were already written.
pub fn run(args: &InitArgs, global: &Global) -> Result<ExitCode, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|e| Failure::usage(format!("the current folder can't be found ({e}): change to another")))?;
    let project_root = global.project_root();
    let root = match project::find_root(project_root.as_deref(), &cwd) {
        Err(failure) if project_root.is_some() => return Err(failure),
        root => root.unwrap_or_else(|_| cwd.clone()),
    };
    let root = root.canonicalize().unwrap_or(root);
    let mode = if args.remove { Mode::Remove } else { Mode::Put { force: args.force } };
    let request = InitRequest {
        includes_codex: args.codex,
        includes_claude: args.claude,
        is_for_user: args.user,
        mode,
    };
    let homes = AgentHomes::from_env(&|name| std::env::var(name), &cwd);
    let plan = init::plan_files(request, &root, &homes)?;
    let mut approved = false;
    if !args.dry_run {
        init::execute_plan(&plan).map_err(|failed| explain_failure(&failed))?;
        if mode == Mode::Remove {
            approval::remove_approval(&root);
        } else {
            approved = approve_written_settings(&plan, &root)?;
        }
    }
    let output = CommandOutput::new(global.color, global.json);
    if output.json {
        for file in &plan.files {
            let (path, kept) = (file.display_path.as_str(), file.kept_reason.as_deref());
            output.print_json(&OutcomeLine { path, outcome: file.outcome, kept, dry_run: args.dry_run });
        }
    } else {
        output.print(&format_summary(&plan, &root, args.dry_run));
        if approved {
            output.print("approved   these settings: `relay up` asks again when they change");
        }
        if mode != Mode::Remove && !args.dry_run {
            output.print(&format_next_steps(args, &homes));
        }
    }
    output.check_written().map(|()| ExitCode::Done)
}

/// Approves the settings if a person has just written them with this command. Returns true if it approved them.
/// Otherwise `relay up` shows the settings and asks, unless they were approved before.
fn approve_written_settings(plan: &InitPlan, root: &Path) -> Result<bool, Failure> {
    let is_written_config =
        |file: &PlannedFile| file.display_path == config::CONFIG_PATH && file.outcome != FileOutcome::Kept;
    let is_in_session = session::calling_session(&|name| std::env::var(name)).is_some();
    if is_in_session || ancestry::is_below_host_agent() || !plan.files.iter().any(is_written_config) {
        return Ok(false);
    }
    let config = Config::load(root)?;
    approval::store_approval(
        root,
        &ApprovableSettings::new(start_daemon::choose_engine(None, &config), &config),
    )?;
    Ok(true)
}

fn explain_failure(failed: &WriteFailure) -> Failure {
    let WriteFailure { path, error, has_written_others } = failed;
    let is_forbidden = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
    let what = if is_forbidden && session::calling_session(&|name| std::env::var(name)).is_some() {
        "Codex's sandbox keeps .codex, .agents and .git read-only: a person has to run `relay init` in a \
        terminal"
            .to_owned()
    } else {
        error.to_string()
    };
    let written = if *has_written_others { "files before it were written" } else { "nothing was written" };
    Failure::unreachable(format!("{} can't be written ({what}); {written}", path.display()))
}

fn format_summary(plan: &InitPlan, root: &Path, dry_run: bool) -> String {
    let mut text = format!("project    {}\n", root.display());
    for PlannedFile { display_path, outcome, kept_reason, .. } in &plan.files {
        let done = match (outcome, dry_run) {
            (FileOutcome::Wrote, false) => "wrote",
            (FileOutcome::Updated, false) => "updated",
            (FileOutcome::Removed, false) => "removed",
            (FileOutcome::Wrote, true) => "to write",
            (FileOutcome::Updated, true) => "to update",
            (FileOutcome::Removed, true) => "to remove",
            (FileOutcome::Unchanged, _) => "unchanged",
            (FileOutcome::Kept, _) => "kept",
        };
        let why = match kept_reason {
            Some(why) if *outcome == FileOutcome::Kept => format!(": {why}"),
            Some(why) => format!(" (kept: {why})"),
            None => String::new(),
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{done:<10} {display_path}{why}");
    }
    if plan.files.is_empty() {
        text.push_str("no files of relay found\n");
    }
    text
}

/// Formats the next steps for a person.
fn format_next_steps(args: &InitArgs, homes: &AgentHomes) -> String {
    let (colima, why) = if uses_colima() {
        (" --add-dir ~/.colima", "; --add-dir is for the folder of colima's socket")
    } else {
        ("", "")
    };
    let mut text = format!(
        "next       relay up     starts the relay and its platform; `relay doctor` shows what is missing\n           \
         codex --sandbox workspace-write{colima} -a on-request\n             \
         relay works in this sandbox, and the rules let up, down and doctor out of it once you trust the project;\n             \
         on-request asks you when a command needs more{why}\n"
    );
    if args.codex {
        text.push_str(
            "trust      Codex runs hooks only after you approved them: type /hooks in Codex once\n",
        );
    }
    if args.claude {
        text.push_str(
            "trust      Claude Code asks once whether to use the MCP server relay of this project\n",
        );
    }
    if args.user && homes.codex.is_none() {
        text.push_str(
            "note       neither CODEX_HOME nor HOME is set: nothing was written for your other projects\n",
        );
    }
    text
}

/// Returns true if colima runs the container engine, in a virtual machine.
fn uses_colima() -> bool {
    let home: Option<PathBuf> = std::env::var_os("HOME").map(PathBuf::from);
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.contains("colima") || (host.is_empty() && home.is_some_and(|home| home.join(".colima").is_dir()))
}
