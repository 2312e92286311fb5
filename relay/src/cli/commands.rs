//! The commands: the only file that knows all of them, beside the dispatcher.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};

use super::global::Global;
use super::{
    cancel, completions, doctor, down, events, explain, extend, hook, init, launch, logs, mcp, notices,
    prune, restart, resume, retry, run, schema, serve, status, top, up, wait,
};

/// Delegates work to workers without blocking: launch returns at once, status answers at once.
///
/// Exit codes: 0 done or completed · 1 the job failed · 2 usage · 3 no such job · 5 relay or platform unreachable ·
/// 8 still running · 74 done, but stdout failed · 124 a time limit · 125 agent or container lost · 130 cancelled.
#[derive(Debug, Parser)]
#[command(name = "relay", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
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

/// Adds the flags of a command. The command keeps its description: the doc comment of its flags is for readers of the
/// source.
fn flags_of<A: Args>(command: clap::Command) -> clap::Command {
    let about = command.get_about().cloned().unwrap_or_default();
    A::augment_args(command).about(about)
}

commands! {
    /// Start the relay in the background, and its platform
    Up(up::UpArgs) = "up";
    /// Stop the relay and its platform
    Down(down::DownArgs) = "down";
    /// Start the relay anew with the settings as they are now; workers go on
    Restart(restart::RestartArgs) = "restart";
    /// Hand a task to a worker and return at once
    Launch(launch::LaunchArgs) = "launch";
    /// Show what runs, or one job in detail
    Status(status::StatusArgs) = "status";
    /// Show all workers on a live screen
    Top(top::TopArgs) = "top";
    /// Show a job's log
    Logs(logs::LogsArgs) = "logs";
    /// Show the milestones of one job or of all
    Events(events::EventsArgs) = "events";
    /// Block until jobs have ended
    Wait(wait::WaitArgs) = "wait";
    /// Tell which jobs have ended, each once
    Notices(notices::NoticesArgs) = "notices";
    /// End jobs before their time
    Cancel(cancel::CancelArgs) = "cancel";
    /// Tell where a job's time went, why it failed and what to try
    Explain(explain::ExplainArgs) = "explain";
    /// Give a job, or the step it is at, more time
    Extend(extend::ExtendArgs) = "extend";
    /// Go on with an ended job: a new prompt in the same Codex thread
    Resume(resume::ResumeArgs) = "resume";
    /// Run the task of an ended job once more
    Retry(retry::RetryArgs) = "retry";
    /// Run a command line as a job, follow its output and return its exit code
    Run(run::RunArgs) = "run";
    /// Offer the commands as tools to a host agent (MCP on stdin and stdout)
    Mcp(mcp::McpArgs) = "mcp";
    /// Print the JSON Schema of what other programs read
    Schema(schema::SchemaArgs) = "schema";
    /// Check that everything is there, and say what to do where it is not
    Doctor(doctor::DoctorArgs) = "doctor";
    /// Remove archived jobs for good
    Prune(prune::PruneArgs) = "prune";
    /// Answer a hook of Codex or Claude Code
    Hook(hook::HookArgs) = "hook";
    /// Make a project ready for delegation: settings, rules, instructions for agents
    Init(init::InitArgs) = "init";
    /// The relay itself, in the foreground
    Serve(serve::ServeArgs) = "serve";
    /// Print a completion script for a shell, or man pages
    Completions(completions::CompletionsArgs) = "completions";
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
    fn global_flags_stand_anywhere() {
        let cli = Cli::try_parse_from(["relay", "status", "--json", "--root", "/x"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.root, Some("/x".into()));
    }

    #[test]
    fn mistakes_exit_2_and_name_a_way_on() {
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
