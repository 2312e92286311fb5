//! Programs and shell words that are no work of their own: shells, wrappers, filters, and what takes no time. Pure.

use super::split::Word;

/// True for a shell's name.
fn names_shell(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "zsh" | "dash" | "ash" | "ksh" | "fish")
}

/// A program that runs another one: the number of words of its own behind its options, and the options that take the next
/// word with them.
type Wrapper = (usize, &'static str);

/// The wrapper of this name.
fn wrapper(name: &str) -> Option<Wrapper> {
    Some(match name {
        "sudo" | "doas" => (0, "-u|-g|-p|-C|-h|-D|-R|-T|-U|-r|-t|--user|--group|--chdir|--host|--prompt"),
        "env" => (0, "-u|-C|--unset|--chdir"),
        "time" | "gtime" => (0, "-o|-f|--output|--format"),
        "nice" => (0, "-n|--adjustment"),
        "ionice" => (0, "-c|-n|-p|--class|--classdata"),
        "stdbuf" => (0, "-i|-o|-e|--input|--output|--error"),
        "timeout" | "gtimeout" => (1, "-s|-k|--signal|--kill-after"),
        "xargs" => (0, "-n|-P|-I|-L|-d|-a|-E|-s|--max-args|--max-procs|--replace|--delimiter|--arg-file"),
        "flock" => (1, "-w|-E|--timeout|--wait|--conflict-exit-code"),
        "taskset" | "gosu" | "su-exec" | "setarch" => (1, ""),
        "nohup" | "setsid" | "command" | "exec" | "builtin" | "unbuffer" | "catchsegv"
        | "dbus-run-session" | "xvfb-run" => (0, ""),
        _ => return None,
    })
}

/// True for words of the shell in front of a command.
fn is_keyword(word: &str) -> bool {
    matches!(word, "then" | "do" | "else" | "elif" | "if" | "while" | "until" | "!" | "{" | "coproc")
}

/// True for commands that take no time, and for what else of the shell's language is a part but no command.
#[rustfmt::skip]
fn takes_no_time(word: &str) -> bool {
    matches!(
        word,
        "cd" | "pushd" | "popd" | "export" | "set" | "unset" | "shopt" | "source" | "." | "echo" | "printf" | "true"
        | "false" | ":" | "test" | "[" | "[[" | "mkdir" | "pwd" | "touch" | "ls" | "which" | "type" | "hash" | "date"
        | "whoami" | "id" | "uname" | "dirname" | "basename" | "ulimit" | "umask" | "trap" | "wait" | "exit"
        | "return" | "break" | "continue" | "shift" | "read" | "local" | "declare" | "typeset" | "readonly" | "alias"
        | "let" | "getopts" | "jobs" | "disown" | "history" | "yes" | "for" | "select" | "case" | "function" | "done"
        | "fi" | "esac" | "}" | "in" | ";;"
    )
}

/// True for programs that only pass on, in a pipeline, what another one prints.
#[rustfmt::skip]
fn is_filter(name: &str) -> bool {
    matches!(
        name,
        "tail" | "head" | "grep" | "egrep" | "fgrep" | "rg" | "tee" | "cat" | "sort" | "wc" | "sed" | "awk" | "gawk"
        | "mawk" | "perl" | "uniq" | "cut" | "tr" | "less" | "more" | "jq" | "yq" | "column" | "nl" | "rev" | "tac"
        | "paste" | "fold" | "fmt" | "xxd" | "od" | "ts" | "strings"
    )
}

/// The name of a program without its folder.
pub(super) fn base(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    // A login shell calls itself `-bash`.
    name.strip_prefix('-').unwrap_or(name)
}

/// Whether `name` is one of `a|b|c`.
pub(super) fn among(name: &str, names: &str) -> bool {
    names.split('|').any(|one| one == name)
}

/// Whether this is a shell.
pub(super) fn is_shell(program: &str) -> bool {
    names_shell(base(program))
}

/// Whether this program does nothing but run another one, which is a process of its own.
pub(super) fn is_wrapper(program: &str) -> bool {
    wrapper(base(program)).is_some()
}

/// Whether such a command takes no time, or only passes on what another one does.
pub(super) fn is_trivial(program: &str, piped: bool) -> bool {
    // `((i++))` is one word here.
    takes_no_time(program) || program.starts_with("((") || (piped && is_filter(base(program)))
}

/// What a shell is told to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ShellCall<'a, W> {
    /// `bash -lc TEXT …`
    Text(&'a W),
    /// `bash FILE …`
    File(&'a [W]),
    /// To read its input.
    Input,
}

/// How a shell is called; none if this is no shell.
pub(super) fn shell_call<W: AsRef<str>>(words: &[W]) -> Option<ShellCall<'_, W>> {
    let (shell, mut words) = words.split_first()?;
    if !is_shell(shell.as_ref()) {
        return None;
    }
    let mut text = false;
    while let Some((first, rest)) =
        words.split_first().filter(|(word, _)| word.as_ref().starts_with(['-', '+']))
    {
        let option = first.as_ref();
        let long = option.starts_with("--");
        text |= !long && option.contains('c');
        // `-euo pipefail`, `--rcfile FILE`.
        let valued = if long { among(option, "--rcfile|--init-file") } else { option.ends_with(['o', 'O']) };
        words = if valued { rest.get(1..).unwrap_or_default() } else { rest };
    }
    Some(match words.first() {
        Some(first) if text => ShellCall::Text(first),
        Some(_) => ShellCall::File(words),
        None => ShellCall::Input,
    })
}

/// The command behind keywords, assignments and wrappers; empty where nothing is left, as with `command -v x`.
pub(super) fn unwrapped(mut words: &[Word]) -> &[Word] {
    while let Some((first, rest)) = words.split_first() {
        if is_assignment(&first.text) || is_keyword(&first.text) {
            words = rest;
        } else if let Some((own, valued)) = wrapper(base(&first.text)) {
            if first.text == "command" && rest.first().is_some_and(|word| among(&word.text, "-v|-V")) {
                return &[];
            }
            words = behind_options(rest, valued).get(own..).unwrap_or_default();
        } else {
            return words;
        }
    }
    words
}

/// Whether a word sets a variable.
pub(super) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        let name = name.strip_suffix('+').unwrap_or(name);
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// The words behind the options; those among `valued` take the next word with them.
pub(super) fn behind_options<'a>(mut words: &'a [Word], valued: &str) -> &'a [Word] {
    while let Some((first, rest)) = words.split_first() {
        match first.text.as_str() {
            "--" => return rest,
            option if !option.starts_with('-') => return words,
            option if among(option, valued) => words = rest.get(1..).unwrap_or_default(),
            _ => words = rest,
        }
    }
    words
}
