//! Entry of the relay as an MCP server in Codex's `config.toml`. Every byte of the rest of the file is kept.

use toml_edit::{DocumentMut, Item, Table, value};

use super::change::{CHANGED_BY_HAND, Decision, Mode};

/// Name of the table of all servers.
const SERVERS_TABLE: &str = "mcp_servers";
/// Name of the relay's entry.
const SERVER_NAME: &str = "relay";
/// Variables that Codex passes on to relay, which may start a daemon from there: the host's Codex home, relay's state
/// folder, the key of workers, and the container engine.
const ENV_VARIABLES: [&str; 4] = ["CODEX_HOME", "CODEX_API_KEY", "DOCKER_HOST", "XDG_STATE_HOME"];
const ENTRY_COMMENT: &str =
    "# relay as tools (written by `relay init`). They only file and read jobs, so none of them has to ask.\n";

/// Compares the entry to the existing text, and returns the change.
///
/// # Errors
/// Returns an error if the text is not TOML, or has a value of another type in place of the entry.
pub(super) fn decide_toml(existing: Option<&str>, mode: Mode) -> Result<Decision, String> {
    let text = existing.unwrap_or_default();
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| common::text_format::one_line(e.message(), 200))?;
    let servers = document.get(SERVERS_TABLE);
    if servers.is_some_and(|servers| !servers.is_table_like()) {
        return Err(format!("{SERVERS_TABLE} is not a table"));
    }
    let own = servers.and_then(|servers| servers.get(SERVER_NAME));
    let is_ours = own.is_some_and(|own| {
        own.as_table_like().is_some_and(|own| plain_values(own) == plain_values(&server_table()))
    });
    match (mode, own) {
        (Mode::Put { .. }, Some(_)) if is_ours => Ok(Decision::nothing()),
        (Mode::Put { force: true }, _) | (Mode::Put { .. }, None) => {
            let replaces = own.is_some();
            insert_table(&mut document, text.is_empty());
            Ok(Decision {
                keep_copy: replaces,
                ..Decision::write(with_original_line_endings(text, document.to_string()))
            })
        }
        (Mode::Remove, None) => Ok(Decision::nothing()),
        (Mode::Remove, Some(_)) if is_ours => {
            remove_table(&mut document);
            let rest = with_original_line_endings(text, document.to_string());
            Ok(if rest.trim().is_empty() { Decision::delete() } else { Decision::write(rest) })
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

/// Returns names and values, without whitespace.
fn plain_values(table: &dyn toml_edit::TableLike) -> Vec<(String, String)> {
    let bare = |item: &Item| item.to_string().split_whitespace().collect::<String>();
    let mut plain: Vec<_> = table.iter().map(|(key, item)| (key.to_owned(), bare(item))).collect();
    plain.sort();
    plain
}

fn insert_table(document: &mut DocumentMut, is_first: bool) {
    let mut own = server_table();
    own.decor_mut().set_prefix(format!("{}{ENTRY_COMMENT}", if is_first { "" } else { "\n" }));
    let servers = document.entry(SERVERS_TABLE).or_insert_with(|| {
        let mut servers = Table::new();
        servers.set_implicit(true);
        Item::Table(servers)
    });
    match servers {
        Item::Table(servers) => drop(servers.insert(SERVER_NAME, Item::Table(own))),
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
    let is_made = document
        .get(SERVERS_TABLE)
        .and_then(Item::as_table)
        .is_some_and(|all| all.is_implicit() && all.is_empty());
    if is_made {
        document.remove(SERVERS_TABLE);
    }
}

/// Restores the line endings, which the parser normalizes. A text that ended without a line break also ends without one
/// afterwards.
fn with_original_line_endings(old: &str, mut new: String) -> String {
    if !old.is_empty() && !old.ends_with('\n') && new.ends_with('\n') {
        new.pop();
    }
    if old.contains('\r') { with_line_breaks_of(old, &new) } else { new }
}

/// Returns the lines of `new`, each with the line break that it has in `old`. The texts must differ in one contiguous
/// part only.
fn with_line_breaks_of(old: &str, new: &str) -> String {
    let plain = |line: &str| line.replace("\r\n", "\n");
    let (old, new): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let same = |(one, other): &(&&str, &&str)| plain(one) == plain(other);
    let head = old.iter().zip(&new).take_while(same).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
    let with = |end: &str| old.iter().filter(|line| line.ends_with(end)).count();
    let crlf = with("\r\n") * 2 > with("\n");
    let made = new[head..new.len() - tail].iter().map(|line| match line.strip_suffix('\n') {
        Some(line) if crlf && !line.ends_with('\r') => format!("{line}\r\n"),
        _ => (*line).to_owned(),
    });
    let kept = |lines: &[&str]| lines.concat();
    kept(&old[..head]) + &made.collect::<String>() + &kept(&old[old.len() - tail..])
}

#[cfg(test)]
mod tests {
    use super::super::change::FileChange;
    use super::*;

    const PUT: Mode = Mode::Put { force: false };

    fn written(text: Option<&str>) -> String {
        match decide_toml(text, PUT).unwrap().change {
            FileChange::Write(text) => text,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn the_entry_comes_and_goes_and_leaves_every_byte_of_the_rest() {
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
            let with = written(Some(text));
            let parsed: toml::Table = toml::from_str(&with).unwrap();
            let own = parsed["mcp_servers"]["relay"].as_table().unwrap();
            assert_eq!(own["command"].as_str(), Some("relay"), "{with}");
            assert_eq!(decide_toml(Some(&with), PUT).unwrap(), Decision::nothing(), "{with}");
            let whole =
                |line: &str| with.split_inclusive('\n').any(|other| other.trim_end() == line.trim_end());
            // The entry of an inline table is added to the line of that table.
            let mut others = text.split_inclusive('\n').filter(|line| !line.starts_with("mcp_servers = {"));
            assert!(others.all(whole), "{with}");
            let breaks = |text: &str| (text.matches("\r\n").count(), text.matches('\n').count());
            let (crlf, all) = breaks(text);
            let of_windows = crlf > 0 && crlf == all;
            assert!(
                breaks(&with).0 >= crlf && (!of_windows || breaks(&with).0 == breaks(&with).1),
                "{with:?}"
            );
            assert_eq!(
                decide_toml(Some(&with), Mode::Remove).unwrap(),
                Decision::write(text.to_owned()),
                "{with}"
            );
        }
        let made = written(None);
        assert_eq!(
            made,
            format!(
                "{ENTRY_COMMENT}[mcp_servers.relay]\ncommand = \"relay\"\nargs = [\"mcp\"]\ndefault_tools_approval_mode = \"approve\"\n\
                 env_vars = [\"CODEX_HOME\", \"CODEX_API_KEY\", \"DOCKER_HOST\", \"XDG_STATE_HOME\"]\n"
            )
        );
        assert_eq!(decide_toml(Some(&made), Mode::Remove).unwrap(), Decision::delete());
    }

    #[test]
    fn an_entry_that_a_person_changed_stays() {
        let theirs = written(None).replace("approve\"", "writes\"");
        let kept = Decision::kept("[mcp_servers.relay] changed by hand");
        assert_eq!(decide_toml(Some(&theirs), PUT).unwrap(), kept);
        assert_eq!(decide_toml(Some(&theirs), Mode::Remove).unwrap(), kept);
        assert!(decide_toml(Some(&theirs), Mode::Put { force: true }).unwrap().keep_copy);
    }

    #[test]
    fn what_can_not_be_read_is_an_error() {
        assert!(decide_toml(Some("a = = 1"), PUT).is_err());
        assert_eq!(decide_toml(Some("mcp_servers = 1"), PUT).unwrap_err(), "mcp_servers is not a table");
    }
}
