//! Script with all commands of git for places.

/// Text of the script; the header of `git.sh` documents the arguments.
const SCRIPT: &str = concat!(include_str!("../git_env.sh"), include_str!("git.sh"));

/// Returns the command line of the script with these arguments.
pub(super) fn argv(arguments: &[&str]) -> Vec<String> {
    ["sh", "-c", SCRIPT, "sh"].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}
