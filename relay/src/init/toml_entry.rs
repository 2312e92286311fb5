//! Entry of relay as an MCP server in Codex's `config.toml`. Every other byte of the file stays as it is.

use toml_edit::{DocumentMut, Item, Table, value};

use super::change::{CHANGED_BY_HAND, Decision, Mode};

/// Name of the table of all MCP servers.
const SERVERS_TABLE: &str = "mcp_servers";
/// Name of relay's entry in that table.
const SERVER_NAME: &str = "relay";
/// Names of the variables that Codex passes on to `relay mcp`, which may start a daemon: the host's Codex home, the
/// workers' key, the container engine, and relay's state folder.
const ENV_VARIABLES: [&str; 4] = ["CODEX_HOME", "CODEX_API_KEY", "DOCKER_HOST", "XDG_STATE_HOME"];
const ENTRY_COMMENT: &str =
    "# relay as tools (written by `relay init`). They only file and read jobs, so no call needs approval.\n";

/// Compares the entry to the existing text, and returns the change.
///
/// # Errors
/// Returns an error if the text is not TOML, or has a value of another type instead of the entry.
pub(super) fn decide_toml(existing: Option<&str>, mode: Mode) -> Result<Decision, String> {
    let text = existing.unwrap_or_default();
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| common::text_format::one_line(e.message(), 200))?;
    let servers = document.get(SERVERS_TABLE);
    if servers.is_some_and(|servers| !servers.is_table_like()) {
        return Err(format!("{SERVERS_TABLE} is not a table"));
    }
    let entry = servers.and_then(|servers| servers.get(SERVER_NAME));
    let is_unchanged = entry.is_some_and(|entry| {
        entry.as_table_like().is_some_and(|entry| plain_values(entry) == plain_values(&server_table()))
    });
    match (mode, entry) {
        (Mode::Put { .. }, Some(_)) if is_unchanged => Ok(Decision::nothing()),
        (Mode::Put { force: true }, _) | (Mode::Put { .. }, None) => {
            let replaces_entry = entry.is_some();
            insert_table(&mut document, text.is_empty());
            Ok(Decision {
                keeps_copy: replaces_entry,
                ..Decision::write(with_original_line_endings(text, document.to_string()))
            })
        }
        (Mode::Remove, None) => Ok(Decision::nothing()),
        (Mode::Remove, Some(_)) if is_unchanged => {
            remove_table(&mut document);
            let remaining_text = with_original_line_endings(text, document.to_string());
            Ok(if remaining_text.trim().is_empty() {
                Decision::delete()
            } else {
                Decision::write(remaining_text)
            })
        }
        (Mode::Put { .. } | Mode::Remove, Some(_)) => {
            Ok(Decision::kept(&format!("[{SERVERS_TABLE}.{SERVER_NAME}] {CHANGED_BY_HAND}")))
        }
    }
}

fn server_table() -> Table {
    let mut table = Table::new();
    table.insert("command", value("relay"));
    table.insert("args", value(toml_edit::Array::from_iter(["mcp"])));
    table.insert("default_tools_approval_mode", value("approve"));
    table.insert("env_vars", value(toml_edit::Array::from_iter(ENV_VARIABLES)));
    table
}

/// Returns the names and values of a table, without whitespace.
fn plain_values(table: &dyn toml_edit::TableLike) -> Vec<(String, String)> {
    let without_whitespace = |item: &Item| item.to_string().split_whitespace().collect::<String>();
    let mut normalized: Vec<_> =
        table.iter().map(|(key, item)| (key.to_owned(), without_whitespace(item))).collect();
    normalized.sort();
    normalized
}

fn insert_table(document: &mut DocumentMut, is_first: bool) {
    let mut entry = server_table();
    entry.decor_mut().set_prefix(format!("{}{ENTRY_COMMENT}", if is_first { "" } else { "\n" }));
    let servers = document.entry(SERVERS_TABLE).or_insert_with(|| {
        let mut servers = Table::new();
        servers.set_implicit(true);
        Item::Table(servers)
    });
    match servers {
        Item::Table(servers) => drop(servers.insert(SERVER_NAME, Item::Table(entry))),
        other => {
            if let Some(servers) = other.as_table_like_mut() {
                servers.insert(SERVER_NAME, value(server_table().into_inline_table()));
            }
        }
    }
}

fn remove_table(document: &mut DocumentMut) {
    let Some(servers) = document.get_mut(SERVERS_TABLE).and_then(Item::as_table_like_mut) else { return };
    servers.remove(SERVER_NAME);
    let was_created_by_init = document
        .get(SERVERS_TABLE)
        .and_then(Item::as_table)
        .is_some_and(|all| all.is_implicit() && all.is_empty());
    if was_created_by_init {
        document.remove(SERVERS_TABLE);
    }
}

/// Restores the line endings of the old text, which the parser normalizes. A text that ended without a line break also
/// ends without one afterwards.
fn with_original_line_endings(old: &str, mut new: String) -> String {
    if !old.is_empty() && !old.ends_with('\n') && new.ends_with('\n') {
        new.pop();
    }
    if old.contains('\r') { with_line_breaks_of(old, &new) } else { new }
}

/// Returns the lines of `new`, each with the line break that it has in `old`. The texts must differ in one contiguous
/// part only.
fn with_line_breaks_of(old: &str, new: &str) -> String {
    let normalized = |line: &str| line.replace("\r\n", "\n");
    let (old, new): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let is_same_line = |(one, other): &(&&str, &&str)| normalized(one) == normalized(other);
    let common_start = old.iter().zip(&new).take_while(is_same_line).count();
    let common_end = old[common_start..]
        .iter()
        .rev()
        .zip(new[common_start..].iter().rev())
        .take_while(is_same_line)
        .count();
    let lines_with_end = |end: &str| old.iter().filter(|line| line.ends_with(end)).count();
    let crlf = lines_with_end("\r\n") * 2 > lines_with_end("\n");
    let new_lines =
        new[common_start..new.len() - common_end].iter().map(|line| match line.strip_suffix('\n') {
            Some(line) if crlf && !line.ends_with('\r') => format!("{line}\r\n"),
            _ => (*line).to_owned(),
        });
    let joined = |lines: &[&str]| lines.concat();
    joined(&old[..common_start]) + &new_lines.collect::<String>() + &joined(&old[old.len() - common_end..])
}

#[cfg(test)]
mod tests {
    use super::super::change::FileChange;
    use super::*;

    const PUT: Mode = Mode::Put { force: false };

    fn written_text(text: Option<&str>) -> String {
        match decide_toml(text, PUT).unwrap().change {
            FileChange::Write(text) => text,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn an_entry_that_is_added_and_removed_changes_no_other_byte() {
        for text in [
            "# mine\nmodel = 'x'   # why\n",
            "a = 1",
            "[mcp_servers.other]\ncommand = \"x\"\n",
            "[mcp_servers]\n\n[mcp_servers.other]\ncommand = \"x\"\n\n[tui]\n# end\n",
            "[mcp_servers]\nother = { command = \"x\" }\n",
            "mcp_servers = { other = { command = \"x\" } }\n",
            "[projects.\"/a\"]\ntrust_level = \"trusted\"\n\n# the end\n",
            "# mine\r\nmodel = 'x'   # why\r\n\r\n[tui]\r\nlong = \"\"\"\r\na\r\n\"\"\"\r\n",
            "a = 1\r\nb = 2",
            "a = 1\r\nb = 2\n[c]\r\nd = 3\n",
        ] {
            let text_with_entry = written_text(Some(text));
            let parsed: toml::Table = toml::from_str(&text_with_entry).unwrap();
            let entry = parsed["mcp_servers"]["relay"].as_table().unwrap();
            assert_eq!(entry["command"].as_str(), Some("relay"), "{text_with_entry}");
            assert_eq!(
                decide_toml(Some(&text_with_entry), PUT).unwrap(),
                Decision::nothing(),
                "{text_with_entry}"
            );
            let whole = |line: &str| {
                text_with_entry.split_inclusive('\n').any(|other| other.trim_end() == line.trim_end())
            };
            // The entry in an inline table is added to the line of that table.
            let mut others = text.split_inclusive('\n').filter(|line| !line.starts_with("mcp_servers = {"));
            assert!(others.all(whole), "{text_with_entry}");
            let breaks = |text: &str| (text.matches("\r\n").count(), text.matches('\n').count());
            let (crlf, all) = breaks(text);
            let has_only_crlf = crlf > 0 && crlf == all;
            assert!(
                breaks(&text_with_entry).0 >= crlf
                    && (!has_only_crlf || breaks(&text_with_entry).0 == breaks(&text_with_entry).1),
                "{text_with_entry:?}"
            );
            assert_eq!(
                decide_toml(Some(&text_with_entry), Mode::Remove).unwrap(),
                Decision::write(text.to_owned()),
                "{text_with_entry}"
            );
        }
        let created = written_text(None);
        assert_eq!(
            created,
            format!(
                "{ENTRY_COMMENT}[mcp_servers.relay]\ncommand = \"relay\"\nargs = [\"mcp\"]\ndefault_tools_approval_mode = \"approve\"\n\
                 env_vars = [\"CODEX_HOME\", \"CODEX_API_KEY\", \"DOCKER_HOST\", \"XDG_STATE_HOME\"]\n"
            )
        );
        assert_eq!(decide_toml(Some(&created), Mode::Remove).unwrap(), Decision::delete());
    }

    #[test]
    fn an_entry_that_a_person_changed_stays() {
        let edited_text = written_text(None).replace("approve\"", "writes\"");
        let kept = Decision::kept("[mcp_servers.relay] changed by hand");
        assert_eq!(decide_toml(Some(&edited_text), PUT).unwrap(), kept);
        assert_eq!(decide_toml(Some(&edited_text), Mode::Remove).unwrap(), kept);
        assert!(decide_toml(Some(&edited_text), Mode::Put { force: true }).unwrap().keeps_copy);
    }

    #[test]
    fn unreadable_toml_is_an_error() {
        assert!(decide_toml(Some("a = = 1"), PUT).is_err());
        assert_eq!(decide_toml(Some("mcp_servers = 1"), PUT).unwrap_err(), "mcp_servers is not a table");
    }
}
