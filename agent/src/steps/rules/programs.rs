//! Programs and shell words that do no work of their own: shells, wrappers, filters, and commands that take no time.
//! Pure.

use super::shell_lexer::Word;

fn is_shell_name(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "zsh" | "dash" | "ash" | "ksh" | "fish")
}

/// Arguments of a program that runs another one: the number of its own words after the options, and the options that
/// take the next word as their value.
type Wrapper = (usize, &'static str);

fn find_wrapper(name: &str) -> Option<Wrapper> {
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

/// Returns true for shell words that precede a command.
fn is_keyword(word: &str) -> bool {
    matches!(word, "then" | "do" | "else" | "elif" | "if" | "while" | "until" | "!" | "{" | "coproc")
}

/// Returns true for commands that take no time, and for words of the shell's syntax.
#[rustfmt::skip]
fn is_instant(word: &str) -> bool {
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

/// Returns true for programs that only pass on the output of another program if they are in a pipeline.
#[rustfmt::skip]
fn is_filter(name: &str) -> bool {
    matches!(
        name,
        "tail" | "head" | "grep" | "egrep" | "fgrep" | "rg" | "tee" | "cat" | "sort" | "wc" | "sed" | "awk" | "gawk"
        | "mawk" | "perl" | "uniq" | "cut" | "tr" | "less" | "more" | "jq" | "yq" | "column" | "nl" | "rev" | "tac"
        | "paste" | "fold" | "fmt" | "xxd" | "od" | "ts" | "strings"
    )
}

/// Returns the name of a program without its folder.
pub(super) fn base_name(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    // The name of a login shell begins with a dash: `-bash`.
    name.strip_prefix('-').unwrap_or(name)
}

/// Returns true if `name` is one of `a|b|c`.
pub(super) fn is_one_of(name: &str, names: &str) -> bool {
    names.split('|').any(|one| one == name)
}

pub(super) fn is_shell(program: &str) -> bool {
    is_shell_name(base_name(program))
}

/// Returns true if the program only runs another program in a separate process.
pub(super) fn is_wrapper(program: &str) -> bool {
    find_wrapper(base_name(program)).is_some()
}

/// Returns true if the command takes no time, or only passes on the output of another command.
pub(super) fn is_trivial(program: &str, is_piped: bool) -> bool {
    // The lexer returns `((i++))` as one word.
    is_instant(program) || program.starts_with("((") || (is_piped && is_filter(base_name(program)))
}

/// Source of the commands that a shell runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandSource<'a, W> {
    /// `bash -lc TEXT …`
    Text(&'a W),
    /// `bash FILE …`
    File(&'a [W]),
    Input,
}

/// Returns the source of a shell's commands; `None` if the program is not a shell.
pub(super) fn shell_command_source<W: AsRef<str>>(words: &[W]) -> Option<CommandSource<'_, W>> {
    let (shell, mut words) = words.split_first()?;
    if !is_shell(shell.as_ref()) {
        return None;
    }
    let mut is_text = false;
    while let Some((first, rest)) =
        words.split_first().filter(|(word, _)| word.as_ref().starts_with(['-', '+']))
    {
        let option = first.as_ref();
        let is_long = option.starts_with("--");
        is_text |= !is_long && option.contains('c');
        // Options with a value: `-euo pipefail`, `--rcfile FILE`.
        let has_value =
            if is_long { is_one_of(option, "--rcfile|--init-file") } else { option.ends_with(['o', 'O']) };
        words = if has_value { rest.get(1..).unwrap_or_default() } else { rest };
    }
    Some(match words.first() {
        Some(first) if is_text => CommandSource::Text(first),
        Some(_) => CommandSource::File(words),
        None => CommandSource::Input,
    })
}

/// Returns the command after keywords, assignments and wrappers; empty if nothing is left, as with `command -v x`.
pub(super) fn strip_wrappers(mut words: &[Word]) -> &[Word] {
    while let Some((first, rest)) = words.split_first() {
        if is_assignment(&first.text) || is_keyword(&first.text) {
            words = rest;
        } else if let Some((own_words, options)) = find_wrapper(base_name(&first.text)) {
            if first.text == "command" && rest.first().is_some_and(|word| is_one_of(&word.text, "-v|-V")) {
                return &[];
            }
            words = skip_options(rest, options).get(own_words..).unwrap_or_default();
        } else {
            return words;
        }
    }
    words
}

/// Returns true if a word sets a variable.
pub(super) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        let name = name.strip_suffix('+').unwrap_or(name);
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Returns the words after the options. `options_with_value` are those that take the next word as their value.
pub(super) fn skip_options<'a>(mut words: &'a [Word], options_with_value: &str) -> &'a [Word] {
    while let Some((first, rest)) = words.split_first() {
        match first.text.as_str() {
            "--" => return rest,
            option if !option.starts_with('-') => return words,
            option if is_one_of(option, options_with_value) => words = rest.get(1..).unwrap_or_default(),
            _ => words = rest,
        }
    }
    words
}
