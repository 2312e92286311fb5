//! Parts of a value that are secrets of their own.

use serde_json::Value;

use crate::environment::looks_secret;

/// Minimum length of a line of a multi-line value that is masked by itself, in bytes.
const MIN_LINE: usize = 8;
/// Maximum length of a value that is parsed as JSON, in bytes. The key of a service account takes 3 KiB, and a
/// cluster's configuration 20 KiB.
const MAX_DOCUMENT: usize = 256 * 1024;
/// Minimum length at which the user name of an address without a password counts as a token, in bytes.
const MIN_TOKEN: usize = 16;
/// Maximum length of a single word that is not a secret. In a field whose name suggests a secret, any word is one.
const MAX_PLAIN_WORD: usize = 16;
/// Fields that contain names of hosts, projects, accounts and the like, in lower case without `_` and `-`. Addresses
/// are recognised by their value.
const HARMLESS_FIELDS: &[&str] = &[
    "accountid",
    "clientemail",
    "clientid",
    "database",
    "dbname",
    "email",
    "endpoint",
    "engine",
    "host",
    "hostname",
    "kind",
    "location",
    "name",
    "project",
    "projectid",
    "quotaprojectid",
    "region",
    "subscriptionid",
    "tenantid",
    "type",
    "universedomain",
    "user",
    "username",
    "version",
    "zone",
];

/// Returns the secret parts of a value: passwords and tokens in addresses, decoded strings of a JSON document, and
/// lines. The most important parts come first.
pub(super) fn secret_parts(value: &str) -> Vec<String> {
    let mut found = address_secrets(value);
    if value.len() <= MAX_DOCUMENT
        && value.trim_start().starts_with(['{', '['])
        && let Ok(document) = serde_json::from_str(value)
    {
        add_strings("", &document, &mut found);
    }
    add_lines(value, &mut found);
    found
}

fn add_lines(value: &str, found: &mut Vec<String>) {
    let lines = value.lines().map(str::trim);
    found.extend(lines.filter(|line| line.len() >= MIN_LINE && *line != value).map(str::to_owned));
}

/// Adds the secret strings of a JSON value. Recursion is bounded: the parser has limited the document's depth.
fn add_strings(field: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let addresses = address_secrets(text);
            if !addresses.is_empty() || is_secret_string(field, text) {
                let text = text.trim_matches(['\r', '\n']);
                found.push(text.to_owned());
                add_lines(text, found);
            }
            found.extend(addresses);
        }
        Value::Array(values) => values.iter().for_each(|value| add_strings(field, value, found)),
        Value::Object(fields) => fields.iter().for_each(|(field, value)| add_strings(field, value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns true if a string that is not an address with a password or token is a secret.
fn is_secret_string(field: &str, text: &str) -> bool {
    let is_address = text.contains("://") && !text.contains('?');
    let plain = field.to_ascii_lowercase().replace(['_', '-'], "");
    let is_harmless =
        HARMLESS_FIELDS.contains(&plain.as_str()) || plain.ends_with("uri") || plain.ends_with("url");
    !is_address && (looks_secret(field) || !is_harmless && !is_plain_word(text))
}

/// Returns the passwords in addresses (`scheme://user:password@host`), and user names that are tokens. Each one is
/// returned as written, and also decoded if it is percent-encoded.
pub(super) fn address_secrets(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, mark) in value.match_indices("://") {
        let rest = &value[at + mark.len()..];
        let end = rest.find(['/', '?', '#', '"', '\n']).unwrap_or(rest.len());
        let Some((user_info, _)) = rest[..end].rsplit_once('@') else { continue };
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let user = Some(user).filter(|user| is_token_in_user(user, password));
        for secret in user.into_iter().chain([password]).filter(|secret| !secret.is_empty()) {
            found.extend(decode_percent(secret));
            found.push(secret.to_owned());
        }
    }
    found
}

/// Returns true if the user name of an address is a token, as GitHub accepts it.
fn is_token_in_user(user: &str, password: &str) -> bool {
    let has = |is: fn(&u8) -> bool| user.as_bytes().iter().any(is);
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    match password {
        "" | "x" | "x-oauth-basic" => user.len() >= MIN_TOKEN || user.len() >= MIN_TOKEN / 2 && is_mixed,
        _ => user.len() > MIN_TOKEN && is_mixed,
    }
}

/// Decodes a percent-encoded text; returns `None` if that does not change it.
fn decode_percent(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let byte = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok())?;
        bytes.push(byte);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok().filter(|decoded| decoded != text)
}

/// Returns true for a single short word of letters: all lower case, all upper case, or with a capital first letter.
pub(super) fn is_plain_word(value: &str) -> bool {
    let mut rest = value.chars().skip(1);
    value.len() <= MAX_PLAIN_WORD
        && value.chars().all(|c| c.is_ascii_alphabetic())
        && (rest.all(|c| c.is_ascii_lowercase()) || value.chars().all(|c| c.is_ascii_uppercase()))
}
