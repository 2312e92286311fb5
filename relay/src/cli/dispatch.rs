//! Runs the command that the command line names, and returns the exit code.

use std::process;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use clap_complete::env::CompleteEnv;
use rustix::fs::Mode;

use super::commands::{Cli, Command};
use super::global::Global;
use super::serve::{self, ServeFn};
use super::{
    Context, apply, cancel, candidates, compare, completions, diff, discard, doctor, down, events, explain,
    extend, help, hook, init, launch, logs, mcp, merge, notices, output, prune, receipt, restart, resume,
    retry, retry_failed, run, schema, secret, shell, status, top, up, usage, verify, wait,
};
use crate::exit::{ExitCode, Failure};
use crate::inheritance;
use crate::render::output as screen;

/// Runs the program `relay`. `serve` is the function that runs the daemon.
pub fn main(serve: ServeFn) -> process::ExitCode {
    inheritance::reset_signals();
    restrict_umask();
    if let Some(code) = answer_completion() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            add_dash_tip(&mut error, std::env::args());
            screen::print_clap_message(&error, wants_json());
            return u8::try_from(error.exit_code()).unwrap_or(ExitCode::Usage as u8).into();
        }
    };
    let code = dispatch(&cli, serve).unwrap_or_else(|failure| {
        screen::report_failure(&failure, cli.global.json);
        failure.code as u8
    });
    code.into()
}

/// Answers a completion request of a shell; returns `None` for every other call.
fn answer_completion() -> Option<process::ExitCode> {
    std::env::var_os(candidates::COMPLETION_VARIABLE)?;
    let cwd = std::env::current_dir().ok();
    let completer = CompleteEnv::with_factory(Cli::command).var(candidates::COMPLETION_VARIABLE);
    match completer.try_complete(std::env::args_os(), cwd.as_deref()) {
        Ok(true) => Some(process::ExitCode::SUCCESS),
        Ok(false) => None,
        Err(error) => {
            screen::print_clap_message(&error, false);
            Some((ExitCode::Usage as u8).into())
        }
    }
}

/// Extends the caller's umask so that other users can't write files of this process or of its children.
fn restrict_umask() {
    let write_bits = Mode::WGRP | Mode::WOTH;
    // The old mask can only be read by setting a new one.
    let caller_mask = rustix::process::umask(write_bits);
    rustix::process::umask(caller_mask | write_bits);
}

/// Flags with a command line as value, which may begin with a dash.
const COMMAND_LINE_FLAGS: [&str; 2] = ["--check", "--setup"];

/// Adds a tip to the error about a command line that begins with a dash and was therefore parsed as a flag.
fn add_dash_tip(error: &mut clap::Error, words: impl Iterator<Item = String>) {
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(value))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return;
    };
    let words: Vec<String> = words.collect();
    let is_mistaken_flag =
        |pair: &&[String]| COMMAND_LINE_FLAGS.contains(&pair[0].as_str()) && pair[1] == *value;
    if let Some([flag, value]) = words.windows(2).find(is_mistaken_flag) {
        let tip = format!("to pass '{value}' as a value, use '{flag}={value}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// Returns true if a command line that could not be parsed asks for JSON.
fn wants_json() -> bool {
    std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json")
}

/// Returns true if this process runs inside a job: the agent sets `RELAY_JOB` for all commands of a job. The `[notify]`
/// command also has the variable, but belongs to no job; `RELAY_DELIVERY` identifies it.
fn is_inside_job() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("RELAY_JOB") && !is_set("RELAY_DELIVERY")
}

/// Returns true for a command that may run inside a job, because it changes no job and takes no result.
fn is_allowed_inside_job(command: &Command) -> bool {
    use Command::{
        Compare, Completions, Diff, Doctor, Events, Explain, Help, Logs, Output, Receipt, Schema, Status,
        Wait,
    };
    matches!(
        command,
        Status(_)
            | Logs(_)
            | Events(_)
            | Wait(_)
            | Explain(_)
            | Diff(_)
            | Receipt(_)
            | Output(_)
            | Compare(_)
            | Schema(_)
            | Doctor(_)
            | Completions(_)
            | Help(_)
    )
}

/// Runs a command. `relay run` returns the exit code of its command line; all other commands return an [`ExitCode`].
fn dispatch(cli: &Cli, serve: ServeFn) -> Result<u8, Failure> {
    if is_inside_job() {
        match &cli.command {
            // Hooks in a person's settings also run in workers, which must not receive notices.
            Command::Hook(_) => return Ok(ExitCode::Done.into()),
            command if is_allowed_inside_job(command) => {}
            _ => {
                return Err(Failure::usage(
                    "this command is not available inside a job (RELAY_JOB is set): run it in the session \
                    that launched the job",
                ));
            }
        }
    }
    let global = &cli.global;
    match &cli.command {
        // These commands work outside of a project.
        Command::Mcp(args) => mcp::run(args, global).map(u8::from),
        Command::Completions(args) => completions::run(args, global, Cli::command()).map(u8::from),
        Command::Schema(args) => schema::run(args, global).map(u8::from),
        Command::Hook(args) => hook::run(args, global).map(u8::from),
        Command::Init(args) => init::run(args, global).map(u8::from),
        Command::Help(args) => help::run(args, global, Cli::command()).map(u8::from),
        Command::Up(args) => in_project(global, |context| up::run(args, context)),
        Command::Down(args) => in_project(global, |context| down::run(args, context)),
        Command::Restart(args) => in_project(global, |context| restart::run(args, context)),
        Command::Launch(args) => in_project(global, |context| launch::run(args, context)),
        Command::Status(args) => in_project(global, |context| status::run(args, context)),
        Command::Usage(args) => in_project(global, |context| usage::run(args, context)),
        Command::Top(args) => in_project(global, |context| top::run(args, context)),
        Command::Logs(args) => in_project(global, |context| logs::run(args, context)),
        Command::Shell(args) => in_project(global, |context| shell::run(args, context)),
        Command::Events(args) => in_project(global, |context| events::run(args, context)),
        Command::Wait(args) => in_project(global, |context| wait::run(args, context)),
        Command::Cancel(args) => in_project(global, |context| cancel::run(args, context)),
        Command::Notices(args) => in_project(global, |context| notices::run(args, context)),
        Command::Explain(args) => in_project(global, |context| explain::run(args, context)),
        Command::Apply(args) => in_project(global, |context| apply::run(args, context)),
        Command::Merge(args) => in_project(global, |context| merge::run(args, context)),
        Command::Discard(args) => in_project(global, |context| discard::run(args, context)),
        Command::Compare(args) => in_project(global, |context| compare::run(args, context)),
        Command::Diff(args) => in_project(global, |context| diff::run(args, context)),
        Command::Output(args) => in_project(global, |context| output::run(args, context)),
        Command::Receipt(args) => in_project(global, |context| receipt::run(args, context)),
        Command::Verify(args) => in_project(global, |context| verify::run(args, context)),
        Command::Extend(args) => in_project(global, |context| extend::run(args, context)),
        Command::Resume(args) => in_project(global, |context| resume::run(args, context)),
        Command::Retry(args) if args.failed => in_project(global, |context| retry_failed::run(args, context)),
        Command::Retry(args) => in_project(global, |context| retry::run(args, context)),
        Command::Run(args) => in_project(global, |context| run::run(args, context)),
        Command::Secret(args) => in_project(global, |context| secret::run(args, context)),
        Command::Doctor(args) => in_project(global, |context| Ok(doctor::run(args, context))),
        Command::Prune(args) => in_project(global, |context| prune::run(args, context)),
        Command::Serve(args) => in_project(global, |context| serve::run(args, context, serve)),
    }
}

fn in_project<C: Into<u8>>(
    global: &Global,
    run: impl FnOnce(&Context) -> Result<C, Failure>,
) -> Result<u8, Failure> {
    let context = Context::new(global)?;
    let code = run(&context)?.into();
    context.output.check_written()?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_begins_with_a_dash_gets_a_tip_that_works() {
        let line = ["relay", "launch", "--check", "-x", "task"];
        let mut error = Cli::try_parse_from(line).unwrap_err();
        add_dash_tip(&mut error, line.iter().map(|word| (*word).to_owned()));
        assert!(error.to_string().contains("tip: to pass '-x' as a value, use '--check=-x'"), "{error}");
        let cli = Cli::try_parse_from(["relay", "launch", "--check=-x", "task"]).unwrap();
        assert!(matches!(cli.command, Command::Launch(args) if args.check == ["-x"]));
    }
}
