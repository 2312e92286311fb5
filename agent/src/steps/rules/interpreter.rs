//! Search for the program that an interpreter runs: `node …/npm-cli.js ci` is `npm ci`. Pure.

use super::programs::{CommandSource, base_name, is_one_of, shell_command_source, skip_options};
use super::shell_lexer::Word;

/// Interpreters, their options that take the next word as their value, and their options that run a text instead of a
/// program.
const INTERPRETERS: &[(&str, &str, &str)] = &[
    ("python|python2|python3|pypy|pypy3", "-W|-X|-Q", "-c"),
    (
        "node|nodejs",
        "-r|--require|--import|--loader|--experimental-loader|-C|--conditions",
        "-e|-p|--eval|--print",
    ),
    ("ruby|jruby", "-I|-C|-E", "-e"),
    ("php", "-d|-c|-z", "-r"),
    ("perl", "-I", "-e|-E"),
    ("java", "-cp|-classpath|--class-path|-p|--module-path|--add-modules|--add-opens|--add-exports", ""),
];

/// Java classes and archives, with the names of the programs they contain.
const JAVA_CLASSES: &[(&str, &str)] = &[
    ("surefire", "surefire"),
    ("org.codehaus.plexus.classworlds.launcher.Launcher", "mvn"),
    ("org.apache.maven.", "mvn"),
    ("org.gradle.wrapper.GradleWrapperMain", "gradle"),
    ("org.gradle.launcher.GradleMain", "gradle"),
    ("gradle-wrapper.jar", "gradle"),
];

/// Names of scripts that are less descriptive than the name of their package.
const ENTRY_SCRIPTS: &str = "cli|index|main|bin|run";

/// Returns the command without its interpreter, beginning with the program's name; `None` if the command has no
/// interpreter or the interpreter runs no program.
pub(super) fn strip_interpreter(words: &[Word]) -> Option<Vec<Word>> {
    let (first, rest) = words.split_first()?;
    let name = base_name(&first.text);
    if let Some(call) = shell_command_source(words) {
        let CommandSource::File([script, rest @ ..]) = call else { return None };
        return Some(join_command(base_name(&script.text), rest));
    }
    let find_interpreter = |name: &str| INTERPRETERS.iter().find(|(names, ..)| is_one_of(name, names));
    let (names, options_with_value, text_options) =
        find_interpreter(name).or_else(|| find_interpreter(strip_version(name)))?;
    let options = rest.len() - skip_options(rest, options_with_value).len();
    let is_module = |word: &Word| word.text.ends_with('m') && !word.text.starts_with("--");
    if names.starts_with("python")
        && let Some(index) = rest[..options].iter().position(is_module)
    {
        let (module, rest) = rest.get(index + 1..)?.split_first()?;
        return Some(join_command(&module.text, rest));
    }
    if rest[..options].iter().any(|word| is_one_of(&word.text, text_options)) {
        return None;
    }
    let (script, rest) = rest.get(options..)?.split_first()?;
    if *names == "java" {
        let (_, program) = JAVA_CLASSES.iter().find(|(class, _)| script.text.contains(class))?;
        return Some(join_command(program, rest));
    }
    Some(join_command(program_name(&script.text), rest))
}

fn join_command(program: &str, rest: &[Word]) -> Vec<Word> {
    [Word::from_argument(program)].into_iter().chain(rest.iter().cloned()).collect()
}

/// Returns the usual name of the program in the file `script`.
fn program_name(script: &str) -> &str {
    let name = base_name(script);
    // Python can run a folder: `pip/__main__.py`.
    if name.starts_with("__") && name.ends_with("__.py") {
        return script.rsplit('/').nth(1).unwrap_or(name);
    }
    let Some((stem, _)) = name.rsplit_once('.').filter(|(_, end)| is_one_of(end, "js|cjs|mjs")) else {
        return name;
    };
    if is_one_of(stem, ENTRY_SCRIPTS) {
        let package = script.rsplit_once("node_modules/").and_then(|(_, path)| path.split('/').next());
        return package.map_or(name, |package| package.trim_start_matches('@'));
    }
    stem.strip_suffix("-cli").unwrap_or(stem)
}

/// Returns a name without its version: `pip3.11`, `gcc-12`.
pub(super) fn strip_version(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}
