//! The command `relay help`, and the layout of all help texts.
//!
//! Every text is a constant, so that calls without a request for help spend no time on it.

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::global::Global;
use crate::exit::{ExitCode, Failure};
use crate::render::{CommandOutput, output};

/// Concatenates the notes that follow a command's flags in the help, if any, and two examples. The heading is styled
/// like clap's headings.
macro_rules! after_help {
    ([$first:literal, $second:literal]) => {
        concat!("\x1b[1m\x1b[4mExamples:\x1b[0m\n  ", $first, "\n  ", $second)
    };
    ($notes:literal, [$first:literal, $second:literal]) => {
        concat!($notes, "\n\n\x1b[1m\x1b[4mExamples:\x1b[0m\n  ", $first, "\n  ", $second)
    };
}
pub(super) use after_help;

/// Heading of the examples, without its style.
pub const EXAMPLES_HEADING: &str = "Examples:\n";

/// Heading of a group of commands, styled like clap's headings.
macro_rules! group_heading {
    ($name:literal) => {
        concat!("\n\x1b[1m\x1b[4m", $name, ":\x1b[0m\n")
    };
}

/// Layout of `relay --help`. clap can't group commands, so this list repeats their names and descriptions.
pub const HELP_TEMPLATE: &str = concat!(
    "{about-with-newline}\n{usage-heading} {usage}\n",
    group_heading!("Work"),
    "  launch       Hand a task to a worker and return at once\n",
    "  run          Run a command line as a job: stream its output, return its exit code\n",
    "  resume       Continue an ended job: a new prompt in the same Codex thread\n",
    "  retry        Run the task of an ended job again\n",
    "  extend       Give a job, or its current step, more time\n",
    "  cancel       Cancel jobs and end everything they started\n",
    group_heading!("Watch"),
    "  status       List jobs, or show one in detail\n",
    "  usage        Sum up the tokens and the cost of jobs\n",
    "  top          Show all workers on a live screen\n",
    "  logs         Show a job's log\n",
    "  events       Show the events of one job or of all\n",
    "  shell        Open a shell in the container of a running job\n",
    "  wait         Wait until jobs have ended\n",
    group_heading!("Results"),
    "  notices      Show newly ended jobs, once each\n",
    "  diff         Show the change of a job with a branch of its own\n",
    "  apply        Put the change of a job into the work tree, without a commit\n",
    "  merge        Merge the branch of a job\n",
    "  discard      Remove the branches of jobs\n",
    "  compare      Compare the results of several jobs\n",
    "  output       List the output files of a job, or write one to stdout\n",
    "  receipt      Print the signed receipt of a job: what was done and checked\n",
    "  verify       Check a job's receipt and run its checks again\n",
    "  explain      Explain where a job's time went, why it failed and what to try\n",
    "  prune        Remove archived jobs\n",
    group_heading!("Platform"),
    "  init         Set up a project: settings, rules, instructions for coding agents\n",
    "  up           Start relay and its platform in the background\n",
    "  down         Stop relay and its platform\n",
    "  restart      Restart relay with the current settings; running jobs continue\n",
    "  secret       Store secrets that relay adds to the requests of jobs for one host\n",
    "  doctor       Check the setup and suggest fixes\n",
    "  serve        Run the relay daemon in the foreground\n",
    group_heading!("Integrations"),
    "  mcp          Serve the commands as tools for a coding agent (MCP over stdio)\n",
    "  hook         Answer a hook of Codex or Claude Code\n",
    "  schema       Print the JSON Schemas of relay's files and events\n",
    "  completions  Print a shell completion script, or man pages\n",
    "  help         Show help for a command or a topic\n",
    group_heading!("Options"),
    "{options}{after-help}\n",
);

/// Last lines of `relay --help`.
pub const FOOTER: &str = "Run `relay COMMAND --help` for a command, and `relay help TOPIC` for a topic: \
                        exit-codes, config, events or trust.";

/// Help text about a subject of several commands. A topic takes precedence over a command of the same name.
pub struct Topic {
    /// Name on the command line.
    pub name: &'static str,
    /// Description in the list of topics.
    about: &'static str,
    /// Text, in lines of at most 80 ASCII characters.
    pub text: &'static str,
}

/// All topics.
pub const TOPICS: [Topic; 4] = [
    Topic {
        name: "exit-codes",
        about: "Exit codes, by number and by command",
        text: include_str!("topics/exit-codes.txt"),
    },
    Topic {
        name: "config",
        about: "Settings in platform/relay.toml",
        text: include_str!("topics/config.txt"),
    },
    Topic {
        name: "events",
        about: "Event log, event types, and the event stream over HTTP",
        text: include_str!("topics/events.txt"),
    },
    Topic {
        name: "trust",
        about: "Protection from workers, sessions and other users",
        text: include_str!("topics/trust.txt"),
    },
];

/// Flags of `relay help`.
#[derive(Debug, Args)]
#[command(
    after_help = after_help!("Topics: exit-codes, config, events, trust.", ["relay help launch", "relay help exit-codes"])
)]
pub struct HelpArgs {
    /// Command or topic [default: list all]
    #[arg(value_name = "COMMAND|TOPIC", add = commands_and_topics())]
    command_or_topic: Option<String>,
}

/// Completes the words after `relay help`: commands and topics.
fn commands_and_topics() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let commands = HELP_TEMPLATE.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let topics = TOPICS.iter().map(|topic| topic.name);
        commands.chain(topics).map(CompletionCandidate::new).collect()
    })
}

/// Prints the help of a command or a topic, or the list of both. `relay` is the top-level command.
///
/// # Errors
/// Exit code 2 for an unknown command or topic, 74 if stdout can't be written.
pub fn run(args: &HelpArgs, global: &Global, relay: clap::Command) -> Result<ExitCode, Failure> {
    let output = CommandOutput::new(global.color, false);
    match args.command_or_topic.as_deref() {
        None => print_help(relay.after_help(format_topics()), &["relay", "--help"]),
        Some(word) => {
            if let Some(topic) = TOPICS.iter().find(|topic| topic.name == word) {
                output.print(topic.text);
            } else if relay.find_subcommand(word).is_some() {
                print_help(relay, &["relay", word, "--help"]);
            } else {
                return Err(Failure::usage(unknown_topic_message(word)));
            }
        }
    }
    output.check_written().map(|()| ExitCode::Done)
}

/// Lets clap print the help for a command line.
fn print_help(relay: clap::Command, line: &[&str]) {
    if let Err(help) = relay.try_get_matches_from(line) {
        output::print_clap_message(&help, false);
    }
}

/// Formats the list of topics.
fn format_topics() -> String {
    let topics: Vec<String> =
        TOPICS.iter().map(|topic| format!("  {:<11}  {}\n", topic.name, topic.about)).collect();
    let heading = "\x1b[1m\x1b[4mTopics:\x1b[0m";
    format!("{heading}\n{}\nRun `relay help COMMAND` or `relay help TOPIC`.", topics.concat())
}

fn unknown_topic_message(word: &str) -> String {
    let topics = TOPICS.map(|topic| topic.name).join(", ");
    format!("no command or topic '{word}': the topics are {topics}; `relay help` lists the commands")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::super::commands::Cli;
    use super::*;

    /// Returns every command with its help as plain text.
    fn help_texts() -> Vec<(String, String)> {
        let mut relay = Cli::command();
        relay.build();
        let commands = relay.get_subcommands_mut();
        commands
            .map(|command| (command.get_name().to_owned(), command.render_long_help().to_string()))
            .collect()
    }

    /// Returns the words of a shell's command line, up to the first redirection.
    fn words(line: &str) -> Vec<String> {
        let words = shell_words::split(line).unwrap();
        words.into_iter().take_while(|word| word != ">" && word != "<").collect()
    }

    #[test]
    fn the_groups_list_every_command_once_with_its_description() {
        let help = Cli::command().render_long_help().to_string();
        let (_, listed) = help.split_once("\nWork:\n").unwrap();
        let (listed, _) = listed.split_once("\nOptions:\n").unwrap();
        let lines: Vec<&str> = listed.lines().filter(|line| line.starts_with("  ")).collect();
        let relay = Cli::command();
        let commands: BTreeSet<String> = relay
            .get_subcommands()
            .map(|command| format!("  {:<11}  {}", command.get_name(), command.get_about().unwrap()))
            .collect();
        assert_eq!(lines.len(), commands.len());
        assert_eq!(lines.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), commands);
    }

    #[test]
    fn the_help_of_each_command_ends_with_two_examples_that_work() {
        for (name, help) in help_texts() {
            let (_, examples) = help.split_once(EXAMPLES_HEADING).unwrap_or_else(|| panic!("{name}: {help}"));
            let lines: Vec<&str> = examples.trim_end().lines().collect();
            assert_eq!(lines.len(), 2, "{name}: {examples}");
            for line in lines {
                let words = words(line);
                assert_eq!(words[..2], ["relay".to_owned(), name.clone()], "{line}");
                Cli::try_parse_from(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
            }
        }
    }

    #[test]
    fn each_topic_is_named_in_the_help_and_fits_into_80_columns() {
        let help = Cli::command().render_long_help().to_string().replace('\n', " ");
        let listed = format_topics();
        for Topic { name, text, .. } in &TOPICS {
            assert!(
                help.contains(name) && listed.contains(name) && unknown_topic_message("x").contains(name),
                "{name}"
            );
            assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{name}");
        }
    }

    #[test]
    fn the_topic_on_events_names_every_event_type() {
        let schema: serde_json::Value = serde_json::from_str(crate::schema::Schema::Event.text()).unwrap();
        let events = TOPICS.iter().find(|topic| topic.name == "events").unwrap().text;
        let rules = schema["allOf"].as_array().unwrap().iter();
        let types: Vec<&str> =
            rules.filter_map(|rule| rule["if"]["properties"]["type"]["const"].as_str()).collect();
        assert!(types.len() > 15, "{types:?}");
        for name in types {
            assert!(events.contains(name), "{name}");
        }
    }

    #[test]
    fn the_topic_on_the_configuration_names_each_setting() {
        let config = TOPICS.iter().find(|topic| topic.name == "config").unwrap().text;
        for line in include_str!("../init/content/relay.toml").lines() {
            let key = line.trim_start_matches('#').split_once(" = ").map(|(key, _)| key);
            if let Some(key) = key.filter(|key| !key.contains(' ')) {
                assert!(config.contains(key), "{key}");
            }
        }
    }
}
