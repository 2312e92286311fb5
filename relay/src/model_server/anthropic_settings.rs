//! Settings of the server of the Messages API, from the environment of the relay. Workers get none of them.

use super::settings::{ModelApi, UpstreamSettings};
use crate::secret::Secret;

const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";
const URL_VARIABLE: &str = "ANTHROPIC_BASE_URL";
const DEFAULT_URL: &str = "https://api.anthropic.com";

impl UpstreamSettings {
    /// Returns the settings of the server of the Messages API; `None` without its key. `variable` looks up the
    /// environment.
    pub fn of_anthropic(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let key = variable(KEY_VARIABLE)?;
        Some(Self {
            api: ModelApi::Messages,
            base_url: variable(URL_VARIABLE).unwrap_or_else(|| DEFAULT_URL.to_owned()),
            key: Some(Secret::new(key)),
            ..Self::default()
        })
    }

    /// Does the same as [`Self::of_anthropic`], with the environment of this process.
    pub fn anthropic_of_this_process() -> Option<Self> {
        Self::of_anthropic(&|name| std::env::var(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_in_the_environment_is_what_opens_the_messages_api() {
        let settings = |variables: &[(&str, &str)]| {
            UpstreamSettings::of_anthropic(&|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let key = (KEY_VARIABLE, "sk-ant-1");
        let url = |settings: Option<UpstreamSettings>| settings.map(|settings| settings.base_url);
        assert_eq!(url(settings(&[key])), Some(DEFAULT_URL.to_owned()));
        assert_eq!(url(settings(&[key, (URL_VARIABLE, "http://h:1")])), Some("http://h:1".to_owned()));
        assert_eq!(settings(&[(URL_VARIABLE, "http://h:1")]), None);
        assert_eq!(settings(&[(KEY_VARIABLE, " ")]), None);
        assert_eq!(settings(&[key]).and_then(|settings| settings.key), Some(Secret::new("sk-ant-1")));
    }
}
