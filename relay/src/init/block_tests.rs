//! Tests with blocks in texts that end in every way.

use super::*;

const PUT: Mode = Mode::Put { force: false };

fn written_text(decision: Decision) -> String {
    match decision {
        Decision {
            change: super::super::change::FileChange::Write(text),
            kept_reason: None,
            keeps_copy: false,
        } => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_that_is_added_and_removed_changes_no_other_byte() {
    for syntax in [MarkerSyntax::Html, MarkerSyntax::Hash] {
        for text in ["", "\n", "a", "a\n", "a\n\n", "a\n\n\n", "a\r\nb\r\n", "a\r\nb", "\r\n", "# T\n\n* x\n"]
        {
            let text_with_block = written_text(decide_block(syntax, "one\ntwo\n", Some(text), PUT));
            assert!(text_with_block.starts_with(text), "{text:?}: {text_with_block:?}");
            assert_eq!(
                decide_block(syntax, "one\ntwo\n", Some(&text_with_block), PUT),
                Decision::nothing(),
                "{text_with_block:?}"
            );
            assert_eq!(
                decide_block(syntax, "", Some(&text_with_block), Mode::Remove),
                Decision::write(text.to_owned()),
                "{text_with_block:?}"
            );
            assert_eq!(text_outside(syntax, &text_with_block).trim_end(), text.trim_end());
        }
        let created = written_text(decide_block(syntax, "one\n", None, PUT));
        assert_eq!(decide_block(syntax, "", Some(&created), Mode::Remove), Decision::delete());
        assert_eq!(decide_block(syntax, "", None, Mode::Remove), Decision::nothing());
    }
}

#[test]
fn an_older_block_is_updated_in_place() {
    let old = written_text(decide_block(MarkerSyntax::Html, "old\n", Some("before\n"), PUT));
    let moved = format!("{old}\nafter\n");
    let new = written_text(decide_block(MarkerSyntax::Html, "new\n", Some(&moved), PUT));
    assert!(new.starts_with("before\n\n<!-- relay:begin (checksum "), "{new}");
    assert!(new.ends_with("`relay init` -->\nnew\n<!-- relay:end -->\n\nafter\n"), "{new}");
    assert_eq!(
        written_text(decide_block(MarkerSyntax::Html, "", Some(&new), Mode::Remove)),
        "before\n\nafter\n"
    );
}

#[test]
fn a_block_that_a_person_changed_stays() {
    let text =
        written_text(decide_block(MarkerSyntax::Hash, "one\n", Some("x\n"), PUT)).replace("one", "two");
    assert_eq!(decide_block(MarkerSyntax::Hash, "one\n", Some(&text), PUT), Decision::kept(CHANGED_BY_HAND));
    assert_eq!(
        decide_block(MarkerSyntax::Hash, "one\n", Some(&text), Mode::Remove),
        Decision::kept(CHANGED_BY_HAND)
    );
    let forced = decide_block(MarkerSyntax::Hash, "one\n", Some(&text), Mode::Put { force: true });
    assert!(forced.keeps_copy, "{forced:?}");
}

#[test]
fn unpaired_markers_are_left_alone_and_reported() {
    for (text, reason) in [
        ("<!-- relay:begin -->\nx\n", "it has a relay:begin without its relay:end"),
        ("x\n<!-- relay:end -->\n", "it has a relay:end without its relay:begin"),
        (
            "<!-- relay:begin -->\n<!-- relay:begin -->\n<!-- relay:end -->\n",
            "it has more than one relay:begin",
        ),
    ] {
        for mode in [PUT, Mode::Put { force: true }, Mode::Remove] {
            assert_eq!(
                decide_block(MarkerSyntax::Html, "b\n", Some(text), mode),
                Decision::kept(reason),
                "{text}"
            );
        }
    }
}
