//! Tests with command lines and the commands that a shell would run.

use super::*;

/// Returns the commands of a line, with their words joined by blanks, and with `|` before a command of a pipeline.
fn describe_commands(line: &str) -> Vec<String> {
    let raw = |command: &SimpleCommand| {
        command.words.iter().map(|word| word.raw.clone()).collect::<Vec<_>>().join(" ")
    };
    simple_commands(line)
        .iter()
        .map(|command| format!("{}{}", if command.is_piped { "|" } else { "" }, raw(command)))
        .collect()
}

#[test]
fn a_line_is_split_where_a_shell_splits_it() {
    let cases: &[(&str, &[&str])] = &[
        ("cd app && npm ci; ls & wait", &["cd app", "npm ci", "ls", "wait"]),
        ("npm ci 2>&1 | tail -5", &["|npm ci", "|tail -5"]),
        ("a || b |& c", &["a", "|b", "|c"]),
        ("(cd x; make test) > log", &["cd x", "make test"]),
        ("echo 'a; b' \"c && d\" e\\;f", &["echo 'a; b' \"c && d\" e\\;f"]),
        ("x > out 2> err < in >> more &> all >& two <<< word y", &["x y"]),
        ("cat <<'EOF' > f && next\nnpm ci\nEOF\nlast", &["cat", "next", "last"]),
        ("cat <<-EOF\n\tnpm ci\n\tEOF\nlast", &["cat", "last"]),
        ("a # npm ci; b\nc", &["a", "c"]),
        ("a # npm ci", &["a"]),
        ("X=$(curl -s x | jq .) y", &["|curl -s x", "|jq .", "X=$(curl -s x | jq .) y"]),
        ("echo \"at `date` $(id)\"", &["|date", "|id", "echo \"at `date` $(id)\""]),
        ("diff <(sort a) b", &["|sort a", "diff <(sort a) b"]),
        ("[[ a && b < c ]] && d; [[ e ]]; f", &["[[ a && b < c ]]", "d", "[[ e ]]", "f"]),
        ("a=(1 2) b=$((1 + (2))) c=${d:-e f}; ((i++))", &["a=(1 2) b=$((1 + (2))) c=${d:-e f}", "((i++))"]),
        ("a \\\n  b", &["a b"]),
        ("for u in a b; do curl $u; done", &["for u in a b", "do curl $u", "done"]),
        ("", &[]),
        ("'", &["'"]),
        ("$(", &["$("]),
        ("<<", &[]),
        ("\\", &["\\"]),
        ("#", &[]),
    ];
    for (line, expected) in cases {
        assert_eq!(describe_commands(line), *expected, "{line}");
    }
}

#[test]
fn the_raw_word_has_the_quotes_and_the_text_does_not() {
    let words = &simple_commands("git commit -m 'it is' \"a b\"c\\ d")[0].words;
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(texts, ["git", "commit", "-m", "it is", "a bc d"]);
    assert_eq!(words[4].raw, "\"a b\"c\\ d");
}

#[test]
fn an_argument_is_quoted_only_if_it_is_empty_or_contains_whitespace() {
    let raw = |text| Word::from_argument(text).raw;
    assert_eq!((raw("$u"), raw("a b"), raw("")), ("$u".into(), "'a b'".into(), "''".into()));
}

proptest::proptest! {
    #[test]
    fn no_line_makes_the_lexer_panic(line in "[a-c \\n'\"`$(){}\\[\\]<>|&;#=\\\\]{0,60}") {
        simple_commands(&line);
    }
}
