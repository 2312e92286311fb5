//! Names by which a job reaches a host through the relay, which adds a secret to its requests.

/// Maximum length of a secret's name, in bytes.
const MAX_NAME: usize = 40;
/// Beginning of the path of a request to the relay's proxy. The secret's name follows.
pub const PATH_PREFIX: &str = "/secret/";
const VARIABLE_PREFIX: &str = "RELAY_SECRET_";
const VARIABLE_SUFFIX: &str = "_URL";

/// Returns true for lower-case letters, digits and hyphens that begin with a letter. Each such name has a variable of its
/// own.
pub fn is_valid_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(is_allowed)
}

/// Returns the name of the variable with the URL of a secret's host.
pub fn url_variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}{VARIABLE_SUFFIX}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Returns true for the name of a variable with the URL of a secret's host. The URL itself is no secret.
pub fn is_url_variable(name: &str) -> bool {
    name.starts_with(VARIABLE_PREFIX) && name.ends_with(VARIABLE_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_part_of_a_path_and_of_a_variable() {
        for name in ["demo", "a", "my-api-2"] {
            assert!(is_valid_name(name) && is_url_variable(&url_variable(name)), "{name}");
        }
        for name in ["", "Demo", "2a", "-a", "a_b", "a/b", "a.b", "a b", "é", &"a".repeat(41)] {
            assert!(!is_valid_name(name), "{name}");
        }
        assert_eq!(url_variable("my-api-2"), "RELAY_SECRET_MY_API_2_URL");
        assert!(!is_url_variable("RELAY_SECRET_DEMO") && !is_url_variable("MY_SECRET_URL"));
    }
}
