//! The list of all commands. Only this file and `dispatch` know every command.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};

use super::global::Global;
use super::{
    apply, cancel, compare, completions, diff, discard, doctor, down, events, explain, extend, help, hook,
    init, launch, logs, mcp, merge, notices, output, prune, receipt, restart, resume, retry, run, schema,
    secret, serve, shell, status, top, up, usage, verify, wait,
};

/// A command line of `relay`: the global flags, and a command with its own flags.
#[derive(Debug, Parser)]
#[command(
    name = "relay",
    version,
    about = "Hand tasks to workers without blocking: launch and status return at once",
    max_term_width = 100,
    disable_help_subcommand = true,
    help_template = help::HELP_TEMPLATE,
    after_help = help::FOOTER
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Declares [`Command`] and lets clap build the flags of the called command only: building all of them took a third of
/// the run time of `relay status`.
macro_rules! commands {
    ($($(#[doc = $about:literal])+ $command:ident($flags:ty) = $name:literal;)+) => {
        /// A command with its flags.
        #[derive(Debug)]
        pub enum Command {
            $($(#[doc = $about])+ $command($flags),)+
        }

        impl Subcommand for Command {
            fn augment_subcommands(relay: clap::Command) -> clap::Command {
                relay$(.subcommand(
                    clap::Command::new($name).about(concat!($($about),+).trim_start()).defer(flags_of::<$flags>),
                ))+
            }

            fn augment_subcommands_for_update(relay: clap::Command) -> clap::Command {
                Self::augment_subcommands(relay)
            }

            fn has_subcommand(name: &str) -> bool {
                [$($name),+].contains(&name)
            }
        }

        impl FromArgMatches for Command {
            fn from_arg_matches(relay: &ArgMatches) -> Result<Self, clap::Error> {
                match relay.subcommand() {
                    $(Some(($name, flags)) => Ok(Self::$command(<$flags>::from_arg_matches(flags)?)),)+
                    _ => Err(clap::Error::new(ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, relay: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(relay)?;
                Ok(())
            }
        }
    };
}

/// Adds the flags of a command. The command keeps its own description instead of the doc comment of its flags.
fn flags_of<A: Args>(command: clap::Command) -> clap::Command {
    let about = command.get_about().cloned().unwrap_or_default();
    A::augment_args(command).about(about)
}

commands! {
    /// Start relay and its platform in the background
    Up(up::UpArgs) = "up";
    /// Stop relay and its platform
    Down(down::DownArgs) = "down";
    /// Restart relay with the current settings; running jobs continue
    Restart(restart::RestartArgs) = "restart";
    /// Hand a task to a worker and return at once
    Launch(launch::LaunchArgs) = "launch";
    /// List jobs, or show one in detail
    Status(status::StatusArgs) = "status";
    /// Sum up the tokens and the cost of jobs
    Usage(usage::UsageArgs) = "usage";
    /// Show all workers on a live screen
    Top(top::TopArgs) = "top";
    /// Show a job's log
    Logs(logs::LogsArgs) = "logs";
    /// Open a shell in the container of a running job
    Shell(shell::ShellArgs) = "shell";
    /// Show the events of one job or of all
    Events(events::EventsArgs) = "events";
    /// Wait until jobs have ended
    Wait(wait::WaitArgs) = "wait";
    /// Show newly ended jobs, once each
    Notices(notices::NoticesArgs) = "notices";
    /// Cancel jobs and end everything they started
    Cancel(cancel::CancelArgs) = "cancel";
    /// Explain where a job's time went, why it failed and what to try
    Explain(explain::ExplainArgs) = "explain";
    /// Give a job, or its current step, more time
    Extend(extend::ExtendArgs) = "extend";
    /// Continue an ended job: a new prompt in the same Codex thread
    Resume(resume::ResumeArgs) = "resume";
    /// Run the task of an ended job again
    Retry(retry::RetryArgs) = "retry";
    /// Run a command line as a job: stream its output, return its exit code
    Run(run::RunArgs) = "run";
    /// Serve the commands as tools for a coding agent (MCP over stdio)
    Mcp(mcp::McpArgs) = "mcp";
    /// Store secrets that relay adds to the requests of jobs for one host
    Secret(secret::SecretArgs) = "secret";
    /// Print the JSON Schemas of relay's files and events
    Schema(schema::SchemaArgs) = "schema";
    /// Check the setup and suggest fixes
    Doctor(doctor::DoctorArgs) = "doctor";
    /// Show the change of a job with a branch of its own
    Diff(diff::DiffArgs) = "diff";
    /// Put the change of a job into the work tree, without a commit
    Apply(apply::ApplyArgs) = "apply";
    /// Merge the branch of a job
    Merge(merge::MergeArgs) = "merge";
    /// Remove the branches of jobs
    Discard(discard::DiscardArgs) = "discard";
    /// Compare the results of several jobs
    Compare(compare::CompareArgs) = "compare";
    /// List the output files of a job, or write one to stdout
    Output(output::OutputArgs) = "output";
    /// Print the signed receipt of a job: what was done and checked
    Receipt(receipt::ReceiptArgs) = "receipt";
    /// Check a job's receipt and run its checks again
    Verify(verify::VerifyArgs) = "verify";
    /// Remove archived jobs
    Prune(prune::PruneArgs) = "prune";
    /// Answer a hook of Codex or Claude Code
    Hook(hook::HookArgs) = "hook";
    /// Set up a project: settings, rules, instructions for coding agents
    Init(init::InitArgs) = "init";
    /// Run the relay daemon in the foreground
    Serve(serve::ServeArgs) = "serve";
    /// Print a shell completion script, or man pages
    Completions(completions::CompletionsArgs) = "completions";
    /// Show help for a command or a topic
    Help(help::HelpArgs) = "help";
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_are_accepted_anywhere() {
        let cli = Cli::try_parse_from(["relay", "status", "--json", "--root", "/x"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.root, Some("/x".into()));
    }

    #[test]
    fn mistakes_exit_2_and_point_to_the_help() {
        for bad in [
            vec!["relay"],
            vec!["relay", "lunch"],
            vec!["relay", "launch", "x", "--timeout", "5"],
            vec!["relay", "launch", "x", "--step-timeout", "instal=5m"],
            vec!["relay", "launch", "x", "--step-timeout", "install"],
            vec!["relay", "launch", "x", "--stall", "instal=5m"],
            vec!["relay", "launch", "x", "--stall", "0s"],
            vec!["relay", "launch", "x", "--stall", "install="],
            vec!["relay", "launch", "x", "--on-limit", "panic"],
            vec!["relay", "launch", "x", "-n", "No Good"],
            vec!["relay", "launch", "x", "-f", "y"],
            vec!["relay", "launch", "x", "--runner", "perl"],
            vec!["relay", "launch", "x", "-q", "--wait"],
            vec!["relay", "wait"],
            vec!["relay", "wait", "a", "--timeout", "0s"],
            vec!["relay", "cancel"],
            vec!["relay", "cancel", "a", "--all"],
            vec!["relay", "launch", "x", "--attempts", "1"],
            vec!["relay", "launch", "x", "--group", "No Good"],
            vec!["relay", "retry"],
            vec!["relay", "retry", "a", "--failed"],
            vec!["relay", "discard"],
            vec!["relay", "status", "a", "--state", "failed"],
            vec!["relay", "status", "--state", "broken"],
            vec!["relay", "compare"],
            vec!["relay", "run"],
            vec!["relay", "init", "--remove", "--codex"],
            vec!["relay", "init", "--remove", "--force"],
            vec!["relay", "prune", "--keep", "all"],
            vec!["relay", "prune", "--older-than", "30"],
            vec!["relay", "status", "a", "--latest"],
            vec!["relay", "status", "-n", "many"],
            vec!["relay", "events", "--since", "yesterday"],
            vec!["relay", "schema", "evnt"],
        ] {
            let error = Cli::try_parse_from(&bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
            let text = error.to_string();
            assert!(text.contains("--help") || text.contains("Usage"), "{text}");
        }
    }
}
