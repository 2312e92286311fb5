//! Variables with which a job's commands use the proxy. Pure.

use common::secret_route::{PATH_PREFIX, url_variable};

use super::settings::{PROXY_VARIABLES, exclude_loopback};
use crate::environment::Variables;

/// Variables with options for Java, whose build tools read no variables about proxies.
const JAVA_VARIABLES: [&str; 2] = ["MAVEN_OPTS", "GRADLE_OPTS"];
/// Variable with which Node's own requests use the proxy variables.
const NODE_VARIABLE: (&str, &str) = ("NODE_USE_ENV_PROXY", "1");

/// Sets the variables for a proxy at a port on loopback. Those that the job sets itself stay.
pub(crate) fn set_variables(env: &mut Variables, job_env: &Variables, port: u16) {
    let proxy = format!("http://127.0.0.1:{port}");
    let java =
        ["http", "https"].map(|scheme| format!("-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort={port}"));
    let java = java.join(" ");
    let proxies = PROXY_VARIABLES.map(|name| (name, proxy.as_str()));
    let options = JAVA_VARIABLES.map(|name| (name, java.as_str()));
    for (name, value) in proxies.into_iter().chain(options).chain([NODE_VARIABLE]) {
        if !job_env.contains_key(name) {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    exclude_loopback(env);
}

/// Sets the URLs at which the proxy adds secrets to the job's requests. Variables that the job sets itself stay.
pub(crate) fn set_secret_urls(env: &mut Variables, job_env: &Variables, port: u16, secrets: &[String]) {
    for secret in secrets {
        let variable = url_variable(secret);
        if !job_env.contains_key(&variable) {
            env.insert(variable, format!("http://127.0.0.1:{port}{PATH_PREFIX}{secret}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_find_the_proxy_unless_the_job_has_one_of_its_own() {
        let own = Variables::from([("https_proxy".to_owned(), "http://own:1".to_owned())]);
        let mut env = own.clone();
        env.insert("NO_PROXY".to_owned(), "internal".to_owned());
        set_variables(&mut env, &own, 4111);
        let value = |name: &str| env[name].as_str();
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            assert_eq!(value(name), "http://127.0.0.1:4111", "{name}");
        }
        assert_eq!((value("https_proxy"), value("NODE_USE_ENV_PROXY")), ("http://own:1", "1"));
        for name in ["NO_PROXY", "no_proxy"] {
            assert_eq!(value(name), "internal,127.0.0.1,localhost");
        }
        assert!(value("MAVEN_OPTS").contains("-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=4111"));
    }
    #[test]
    fn each_secret_has_a_url_unless_the_job_has_one_of_its_own() {
        let own = Variables::from([("RELAY_SECRET_MINE_URL".to_owned(), "http://own:1".to_owned())]);
        let mut env = own.clone();
        set_secret_urls(&mut env, &own, 4111, &["my-api".to_owned(), "mine".to_owned()]);
        assert_eq!(env["RELAY_SECRET_MY_API_URL"], "http://127.0.0.1:4111/secret/my-api");
        assert_eq!(env["RELAY_SECRET_MINE_URL"], "http://own:1");
    }
}
