//! Arguments and variables of a job for a model behind the relay. Pure.

use common::wire::{ModelGrant, ModelToken};

use crate::environment::Variables;

/// Variable from which Codex takes the token. Its name makes it a secret: the model's commands don't get it.
pub(crate) const TOKEN_VARIABLE: &str = "RELAY_JOB_TOKEN";
/// Variables with which programs that use the Messages API, such as Claude Code, find their model and its key.
const ANTHROPIC_VARIABLES: [&str; 2] = ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"];
/// Variables that hold the model's key where there is no gateway.
const KEY_VARIABLES: [&str; 2] = ["CODEX_API_KEY", "OPENAI_API_KEY"];
/// Variables with the address of a proxy, which Codex would use for loopback, too.
pub(super) const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Variables with the hosts that are reached without a proxy. Programs read one or the other.
const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Hosts that are reached without a proxy.
const LOOPBACK_HOSTS: &str = "127.0.0.1,localhost";

/// Returns the arguments that make Codex use the model at a port on loopback. They follow all other arguments and so
/// take precedence: the job has a key for no other model.
pub(crate) fn codex_args(port: u16, grant: &ModelGrant) -> Vec<String> {
    let retries = grant.retries;
    let retries = [
        ("request_max_retries", retries.request_max_retries),
        ("stream_max_retries", retries.stream_max_retries),
        ("stream_idle_timeout_ms", retries.stream_idle_timeout_ms),
    ];
    let retries = retries.into_iter().filter_map(|(name, value)| Some(format!(",{name}={}", value?)));
    // Codex recognizes Azure by this name, because it doesn't see the server's address.
    let name = if grant.is_azure { "azure" } else { "relay" };
    let provider = format!(
        "model_providers.relay={{name=\"{name}\",base_url=\"http://127.0.0.1:{port}/v1\",\
         env_key=\"{TOKEN_VARIABLE}\",wire_api=\"responses\"{}}}",
        retries.collect::<String>()
    );
    ["-c", "model_provider=\"relay\"", "-c", &provider].map(str::to_owned).into()
}

/// Replaces the model's key in a job's environment with its token, except a key that the job itself sets.
pub(crate) fn set_variables(env: &mut Variables, job_env: &Variables, token: &ModelToken) {
    env.retain(|name, _| !KEY_VARIABLES.contains(&name.as_str()) || job_env.contains_key(name));
    env.insert(TOKEN_VARIABLE.to_owned(), token.as_str().to_owned());
    reach_loopback_without_proxy(env);
}

/// Returns the variables with which a shell job finds the Messages API at a port on loopback. A job that
/// brings its own settings gets none.
pub(crate) fn anthropic_variables(port: u16, job_env: &Variables, token: &ModelToken) -> Variables {
    if ANTHROPIC_VARIABLES.iter().any(|name| job_env.contains_key(*name)) {
        return Variables::new();
    }
    let values = [format!("http://127.0.0.1:{port}"), token.as_str().to_owned()];
    ANTHROPIC_VARIABLES.iter().map(|name| (*name).to_owned()).zip(values).collect()
}

/// Adds loopback to the hosts that are reached without a proxy, if there is a proxy.
pub(crate) fn reach_loopback_without_proxy(env: &mut Variables) {
    if PROXY_VARIABLES.iter().any(|name| env.contains_key(*name)) {
        exclude_loopback(env);
    }
}

/// Adds loopback to the hosts that are reached without a proxy.
pub(super) fn exclude_loopback(env: &mut Variables) {
    let hosts = NO_PROXY_VARIABLES.iter().find_map(|name| env.get(*name).filter(|hosts| !hosts.is_empty()));
    let hosts = match hosts {
        Some(hosts) if hosts.ends_with(LOOPBACK_HOSTS) => hosts.clone(),
        Some(hosts) => format!("{hosts},{LOOPBACK_HOSTS}"),
        None => LOOPBACK_HOSTS.to_owned(),
    };
    env.extend(NO_PROXY_VARIABLES.map(|name| (name.to_owned(), hosts.clone())));
}

#[cfg(test)]
mod tests {
    use common::wire::RetrySettings;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn codex_gets_the_token_and_no_key_of_the_platform() {
        let token = ModelToken::new("t0ken".into());
        let mut env = variables(&[("CODEX_API_KEY", "key"), ("OPENAI_API_KEY", "own"), ("PATH", "/bin")]);
        set_variables(&mut env, &variables(&[("OPENAI_API_KEY", "own")]), &token);
        let expected = [("OPENAI_API_KEY", "own"), ("PATH", "/bin"), ("RELAY_JOB_TOKEN", "t0ken")];
        assert_eq!(env, variables(&expected));
    }

    #[test]
    fn a_shell_job_gets_the_token_in_place_of_a_key_unless_it_brings_its_own() {
        let token = ModelToken::new("t0ken".into());
        let own = variables(&[("ANTHROPIC_API_KEY", "own")]);
        assert_eq!(anthropic_variables(4111, &own, &token), Variables::new());
        let expected = [("ANTHROPIC_API_KEY", "t0ken"), ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4111")];
        assert_eq!(anthropic_variables(4111, &Variables::new(), &token), variables(&expected));
    }

    #[test]
    fn loopback_is_reached_without_a_proxy_if_there_is_one() {
        let token = ModelToken::new("t0ken".into());
        let mut env = variables(&[("HTTP_PROXY", "http://proxy:1"), ("no_proxy", "internal")]);
        set_variables(&mut env, &Variables::new(), &token);
        let hosts = "internal,127.0.0.1,localhost";
        assert_eq!((env["NO_PROXY"].as_str(), env["no_proxy"].as_str()), (hosts, hosts));
        let mut env = variables(&[("HTTP_PROXY", "http://proxy:1")]);
        set_variables(&mut env, &Variables::new(), &token);
        assert_eq!(env["NO_PROXY"], LOOPBACK_HOSTS);
    }

    #[test]
    fn the_arguments_name_the_port_and_the_variable() {
        let provider = "model_providers.relay={name=\"relay\",base_url=\"http://127.0.0.1:4111/v1\",\
                        env_key=\"RELAY_JOB_TOKEN\",wire_api=\"responses\"}";
        let grant = |retries, is_azure| ModelGrant { token: ModelToken::new("t".into()), retries, is_azure };
        let args = codex_args(4111, &grant(RetrySettings::default(), false));
        assert_eq!(args, ["-c", "model_provider=\"relay\"", "-c", provider]);
        let retries = RetrySettings {
            request_max_retries: Some(2),
            stream_max_retries: Some(0),
            stream_idle_timeout_ms: None,
        };
        let with_retries = provider.replace('}', ",request_max_retries=2,stream_max_retries=0}");
        assert_eq!(codex_args(4111, &grant(retries, false)).last(), Some(&with_retries));
        let azure = provider.replace("name=\"relay\"", "name=\"azure\"");
        assert_eq!(codex_args(4111, &grant(RetrySettings::default(), true)).last(), Some(&azure));
    }
}
