//! The command `relay completions`: completion scripts for shells, and man pages.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::Shell;
use clap_complete::env::Shells;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::candidates;
use super::global::Global;
use super::help::{self, TOPICS, Topic, after_help};
use crate::exit::{ExitCode, Failure};
use crate::init::folder::Folder;
use crate::render::CommandOutput;

/// Flags of `relay completions`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "bash: relay completions bash > ~/.local/share/bash-completion/completions/relay\n\
     zsh:  relay completions zsh > ~/.zfunc/_relay   (with fpath+=~/.zfunc before compinit)\n\
     fish: relay completions fish > ~/.config/fish/completions/relay.fish\n\
     man:  relay completions --man ~/.local/share/man/man1",
    [
        "relay completions bash > ~/.local/share/bash-completion/completions/relay",
        "relay completions --man ~/.local/share/man/man1"
    ]
))]
pub struct CompletionsArgs {
    /// Shell; the script completes commands, flags and jobs
    #[arg(value_name = "SHELL", required_unless_present = "man", conflicts_with = "man")]
    shell: Option<Shell>,
    /// Write the man pages of relay and its commands to a folder; without DIR, print the page of relay
    #[arg(long, value_name = "DIR")]
    #[expect(clippy::option_option, reason = "the value of the flag is optional")]
    man: Option<Option<PathBuf>>,
}

/// Prints the script, or prints or writes the man pages of `relay` and its commands.
///
/// # Errors
/// Exit code 2 if the folder of the man pages can't be written, 74 if stdout can't be written.
pub fn run(args: &CompletionsArgs, global: &Global, relay: clap::Command) -> Result<ExitCode, Failure> {
    let output = CommandOutput::new(global.color, false);
    let failed = |e: std::io::Error| Failure::unreachable(format!("the output can't be written: {e}"));
    match (args.shell, &args.man) {
        (Some(shell), _) => output.print_raw(&completion_script(shell, relay).map_err(failed)?),
        (None, Some(Some(dir))) => {
            let page_count = write_man_pages(dir, relay).map_err(|e| {
                Failure::usage(format!("{}: {e}: choose a folder that can be written", dir.display()))
            })?;
            output.print_note(&format!("{page_count} pages written to {}", dir.display()));
        }
        (None, _) => output.print_raw(man_page(relay).map_err(failed)?.as_bytes()),
    }
    output.check_written().map(|()| ExitCode::Done)
}

/// Returns the completion script. The script calls `relay` for the candidates, so it stays valid for newer versions.
fn completion_script(shell: Shell, mut relay: clap::Command) -> std::io::Result<Vec<u8>> {
    let mut script = Vec::new();
    match Shells::builtins().completer(&shell.to_string()) {
        Some(completer) => {
            completer.write_registration(
                candidates::COMPLETION_VARIABLE,
                "relay",
                "relay",
                "relay",
                &mut script,
            )?;
        }
        None => clap_complete::generate(shell, &mut relay, "relay", &mut script),
    }
    Ok(script)
}

/// Writes every man page; returns their number.
fn write_man_pages(dir: &Path, mut relay: clap::Command) -> std::io::Result<usize> {
    relay.build();
    let commands = relay.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut page_count = 0;
    for command in commands.chain([relay.clone()]) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let file = format!("{name}.1");
        // A session may have put links into the folder: `Folder` follows none.
        Folder::open(&dir.join(&file), dir, true)?.stage(&file, &man_page(command)?)?.publish()?;
        page_count += 1;
    }
    Ok(page_count)
}

/// Formats the man page of a command: clap's page, with notes and examples as sections. The page of relay also contains
/// the topics.
fn man_page(command: clap::Command) -> std::io::Result<String> {
    let after_help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = after_help.split_once(help::EXAMPLES_HEADING).unwrap_or((&after_help, ""));
    let topics: &[Topic] = if command.get_name() == "relay" { &TOPICS } else { &[] };
    let mut page = Vec::new();
    let version = format!("relay {}", env!("CARGO_PKG_VERSION"));
    // An empty date would be omitted, and the version printed instead.
    let man = Man::new(command.after_help(None)).date(" ").source(version).manual("relay");
    man.render(&mut page)?;
    let mut sections = Roff::new();
    add_section(&mut sections, "NOTES", notes);
    add_section(&mut sections, "EXAMPLES", examples);
    for topic in topics {
        add_section(&mut sections, &topic.name.to_uppercase().replace('-', " "), topic.text);
    }
    sections.to_writer(&mut page)?;
    String::from_utf8(page).map_err(std::io::Error::other)
}

/// Adds a section, unless it is empty. Line breaks in the text are kept.
fn add_section(page: &mut Roff, heading: &str, text: &str) {
    let text = text.trim_end();
    if text.is_empty() {
        return;
    }
    page.control("SH", [heading]);
    let is_one_line = !text.contains('\n');
    if !is_one_line {
        page.control("nf", []);
    }
    for line in text.lines() {
        page.text([roman(line)]);
    }
    if !is_one_line {
        page.control("fi", []);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory;

    use super::super::commands::Cli;
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_flags() {
        let dir = tempfile::tempdir().unwrap();
        let pages = write_man_pages(dir.path(), Cli::command()).unwrap();
        let commands = Cli::command().get_subcommands().filter(|command| !command.is_hide_set()).count();
        assert_eq!(pages, commands + 1);
        let resume = fs::read_to_string(dir.path().join("relay-resume.1")).unwrap();
        assert!(resume.contains("in the same Codex thread") && resume.contains(r"\-\-no\-check"), "{resume}");
        let relay = fs::read_to_string(dir.path().join("relay.1")).unwrap();
        assert!(relay.contains("relay\\-launch(1)"), "{relay}");
        assert!(relay.contains(".SH \"EXIT CODES\"\n.nf\n"), "{relay}");
        assert!(resume.contains(".SH EXAMPLES\n.nf\n  relay resume demo"), "{resume}");
    }

    #[test]
    fn the_script_of_every_shell_asks_relay_for_candidates() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = String::from_utf8(completion_script(shell, Cli::command()).unwrap()).unwrap();
            assert!(script.contains("RELAY_COMPLETE") && script.contains("relay"), "{shell}: {script}");
        }
    }
}
