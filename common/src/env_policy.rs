//! Environment variables that a job may not set if Codex's sandbox is the only protection from the job. Pure.
//!
//! Codex itself, its helpers and the programs that start before its sandbox exists (git, node, shells) read these
//! variables outside of the sandbox. The variables name a library to load, a program to run, a configuration to trust,
//! or a server to send the key to.

/// Names of forbidden variables, in upper case.
const FORBIDDEN_NAMES: [&str; 51] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "TMPDIR",
    "TMP",
    "TEMP",
    "ENV",
    "BASH_ENV",
    "BASHOPTS",
    "SHELLOPTS",
    "IFS",
    "PS4",
    "PROMPT_COMMAND",
    "ZDOTDIR",
    "FPATH",
    "CDPATH",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "HOSTALIASES",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "TERMINFO",
    "TERMINFO_DIRS",
    "RUST_LOG",
    "RUST_LOG_FORMAT",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "SSLKEYLOGFILE",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "DISPLAY",
    "CURL_HOME",
    "WGETRC",
    "TZDIR",
    "RELAY_JOB",
    "RELAY_ROOT",
    "RELAY_SESSION",
    "RELAY_DELIVERY",
    "RELAY_OUTPUT",
];

/// Prefixes of the names of forbidden variables, in upper case.
const FORBIDDEN_PREFIXES: [&str; 19] = [
    "CODEX_",
    "OPENAI_",
    "LD_",
    "DYLD_",
    "BASH_FUNC_",
    "MALLOC_",
    "GLIBC_",
    "GIT_",
    "SSH_",
    "NODE_",
    "NPM_CONFIG_",
    "PYTHON",
    "PERL5",
    "PERLLIB",
    "RUBY",
    "XDG_",
    "OPENSSL_",
    "SSL_CERT_",
    "OTEL_",
];

/// Suffixes of the names of forbidden variables, in upper case.
const FORBIDDEN_SUFFIXES: [&str; 3] = ["_BASE_URL", "_PROXY", "_CA_BUNDLE"];

/// Names of allowed variables that begin with a forbidden prefix, in upper case.
const HARMLESS_NAMES: [&str; 2] = ["NODE_ENV", "NODE_AUTH_TOKEN"];

/// Returns true for the name of a variable that affects programs outside of the job's sandbox.
pub fn affects_outside_sandbox(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let is_known = FORBIDDEN_NAMES.contains(&name.as_str())
        || FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || FORBIDDEN_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    is_known && !HARMLESS_NAMES.contains(&name.as_str())
}

/// Returns the first of these names that affects programs outside of the job's sandbox.
pub fn first_forbidden<'a>(names: impl IntoIterator<Item = &'a String>) -> Option<&'a str> {
    names.into_iter().map(String::as_str).find(|name| affects_outside_sandbox(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_load_code_name_a_program_or_redirect_codex_are_refused() {
        let names = "PATH HOME CODEX_HOME CODEX_API_KEY LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES BASH_ENV ENV \
            SHELLOPTS ZDOTDIR BASH_FUNC_git%% NODE_OPTIONS GIT_SSH_COMMAND GIT_CONFIG_COUNT PYTHONSTARTUP \
            PERL5OPT XDG_CONFIG_HOME OPENAI_BASE_URL ANTHROPIC_BASE_URL https_proxy RELAY_JOB";
        for name in names.split_whitespace() {
            assert!(affects_outside_sandbox(name), "{name}");
        }
    }

    #[test]
    fn variables_for_the_job_s_own_programs_are_allowed() {
        for name in ["NPM_TOKEN", "DATABASE_URL", "GITHUB_TOKEN", "CI", "LANG", "MY_KEY", "NODE_ENV", "DEBUG"]
        {
            assert!(!affects_outside_sandbox(name), "{name}");
        }
    }
}
