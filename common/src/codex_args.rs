//! Arguments of `codex exec` that a job may set if Codex's sandbox is the only protection from the job. Pure.
//!
//! Any argument not listed here is refused. It could disable the sandbox, make more folders writable, name a program
//! that Codex starts outside of the sandbox (MCP server, notifier, hook) or make Codex itself write a file.

/// Allowed flags without a value.
const FLAGS: [&str; 3] = ["--search", "--ephemeral", "--strict-config"];

/// Allowed flags with a value. They affect only the choice of the model or the output.
const VALUE_FLAGS: [&str; 3] = ["-m", "--model", "--color"];

/// Flags that set one configuration value, as `KEY=VALUE`. They are allowed with a key of [`CONFIG_KEYS`].
const CONFIG_FLAGS: [&str; 2] = ["-c", "--config"];

/// Allowed configuration keys. They affect only the model and the output.
const CONFIG_KEYS: [&str; 15] = [
    "model",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "model_supports_reasoning_summaries",
    "model_verbosity",
    "model_context_window",
    "model_max_output_tokens",
    "model_auto_compact_token_limit",
    "plan_mode_reasoning_effort",
    "personality",
    "service_tier",
    "hide_agent_reasoning",
    "show_raw_agent_reasoning",
    "web_search",
    "tools.web_search",
];

/// Returns the first of these arguments that a job may not set; `None` if all are allowed.
///
/// If an allowed flag has a forbidden value, returns the value: `sandbox_mode=…` is more informative than `-c`.
pub fn first_forbidden<S: AsRef<str>>(args: &[S]) -> Option<&str> {
    let mut args = args.iter().map(AsRef::as_ref);
    while let Some(arg) = args.next() {
        if !has_no_control_characters(arg) {
            return Some(arg);
        }
        if FLAGS.contains(&arg) {
            continue;
        }
        let Some((flag, attached)) = split_flag(arg) else { return Some(arg) };
        if !VALUE_FLAGS.contains(&flag) && !CONFIG_FLAGS.contains(&flag) {
            return Some(arg);
        }
        let Some(value) = attached.or_else(|| args.next()) else { return Some(arg) };
        let is_allowed = has_no_control_characters(value)
            && !(attached.is_none() && value.starts_with('-'))
            && (VALUE_FLAGS.contains(&flag) || sets_known_key(value));
        if !is_allowed {
            return Some(if attached.is_some() { arg } else { value });
        }
    }
    None
}

/// Splits an argument into the flag and its value, if both are in the same word: `--model=x`, `-mx`, `-m=x`.
fn split_flag(arg: &str) -> Option<(&str, Option<&str>)> {
    if arg.starts_with("--") {
        return Some(match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (arg, None),
        });
    }
    let flag = arg.get(..2).filter(|flag| flag.starts_with('-'))?;
    let rest = arg.get(2..)?;
    Some((flag, (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest))))
}

fn sets_known_key(assignment: &str) -> bool {
    assignment.split_once('=').is_some_and(|(key, _)| CONFIG_KEYS.contains(&key))
}

/// Returns true for a text without control characters. Codex parses values as TOML, where a line break could begin
/// another key.
fn has_no_control_characters(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_affect_only_the_model_are_allowed() {
        for args in [
            &[][..],
            &["--search"],
            &["-m", "gpt-6", "--ephemeral"],
            &["--model=gpt-6", "-mgpt-6", "-m=gpt-6"],
            &["-c", "model_reasoning_effort=\"high\"", "--config", "web_search=live"],
            &["-cmodel_verbosity=low", "--config=personality=\"friendly\""],
        ] {
            assert_eq!(first_forbidden(args), None, "{args:?}");
        }
    }

    #[test]
    fn arguments_that_open_the_sandbox_or_name_a_program_are_refused_in_every_spelling() {
        for (args, first) in [
            (
                &["--dangerously-bypass-approvals-and-sandbox"][..],
                "--dangerously-bypass-approvals-and-sandbox",
            ),
            (&["--dangerously-bypass-hook-trust"], "--dangerously-bypass-hook-trust"),
            (&["--yolo"], "--yolo"),
            (&["-s", "danger-full-access"], "-s"),
            (&["-sdanger-full-access"], "-sdanger-full-access"),
            (&["--sandbox=danger-full-access"], "--sandbox=danger-full-access"),
            (
                &["--search", "-c", "sandbox_mode=\"danger-full-access\""],
                "sandbox_mode=\"danger-full-access\"",
            ),
            (&["-csandbox_mode=x"], "-csandbox_mode=x"),
            (&["-c=sandbox_mode=x"], "-c=sandbox_mode=x"),
            (&["--config=mcp_servers.a.command=\"sh\""], "--config=mcp_servers.a.command=\"sh\""),
            (&["-c", "notify=[\"sh\"]"], "notify=[\"sh\"]"),
            (&["-c", "model_provider=evil"], "model_provider=evil"),
            (&["-c", " model=x"], " model=x"),
            (&["-c", "\"model\"=x"], "\"model\"=x"),
            (&["-c", "model"], "model"),
            (&["-c", "model=1\nsandbox_mode=2"], "model=1\nsandbox_mode=2"),
            (&["-p", "mine"], "-p"),
            (&["--add-dir", "/"], "--add-dir"),
            (&["-C", "/"], "-C"),
            (&["-o", "/root/.bashrc"], "-o"),
            (&["--enable", "x"], "--enable"),
            (&["--disable=x"], "--disable=x"),
            (&["--trust"], "--trust"),
            (&["--ignore-rules"], "--ignore-rules"),
            (&["--ignore-user-config"], "--ignore-user-config"),
            (&["resume"], "resume"),
            (&["--"], "--"),
            (&["-"], "-"),
            (&[""], ""),
            (&["-m"], "-m"),
            (&["-m", "--yolo"], "--yolo"),
            (&["-é"], "-é"),
        ] {
            assert_eq!(first_forbidden(args), Some(first), "{args:?}");
        }
    }
}
