//! Blocks in texts with every kind of ending.

use super::*;

const PUT: Mode = Mode::Put { force: false };

fn written(decision: Decision) -> String {
    match decision {
        Decision {
            change: super::super::change::FileChange::Write(text),
            kept_reason: None,
            keep_copy: false,
        } => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_comes_and_goes_and_leaves_every_byte_of_the_rest() {
    for marks in [MarkerSyntax::Html, MarkerSyntax::Hash] {
        for text in ["", "\n", "a", "a\n", "a\n\n", "a\n\n\n", "a\r\nb\r\n", "a\r\nb", "\r\n", "# T\n\n* x\n"]
        {
            let with = written(decide_block(marks, "one\ntwo\n", Some(text), PUT));
            assert!(with.starts_with(text), "{text:?}: {with:?}");
            assert_eq!(decide_block(marks, "one\ntwo\n", Some(&with), PUT), Decision::nothing(), "{with:?}");
            assert_eq!(
                decide_block(marks, "", Some(&with), Mode::Remove),
                Decision::write(text.to_owned()),
                "{with:?}"
            );
            assert_eq!(text_outside(marks, &with).trim_end(), text.trim_end());
        }
        let made = written(decide_block(marks, "one\n", None, PUT));
        assert_eq!(decide_block(marks, "", Some(&made), Mode::Remove), Decision::delete());
        assert_eq!(decide_block(marks, "", None, Mode::Remove), Decision::nothing());
    }
}

#[test]
fn an_older_block_is_updated_where_it_stands() {
    let old = written(decide_block(MarkerSyntax::Html, "old\n", Some("before\n"), PUT));
    let moved = format!("{old}\nafter\n");
    let new = written(decide_block(MarkerSyntax::Html, "new\n", Some(&moved), PUT));
    assert!(new.starts_with("before\n\n<!-- relay:begin (checksum "), "{new}");
    assert!(new.ends_with("`relay init` -->\nnew\n<!-- relay:end -->\n\nafter\n"), "{new}");
    assert_eq!(written(decide_block(MarkerSyntax::Html, "", Some(&new), Mode::Remove)), "before\n\nafter\n");
}

#[test]
fn a_block_that_a_person_changed_stays() {
    let text = written(decide_block(MarkerSyntax::Hash, "one\n", Some("x\n"), PUT)).replace("one", "two");
    assert_eq!(decide_block(MarkerSyntax::Hash, "one\n", Some(&text), PUT), Decision::kept(CHANGED_BY_HAND));
    assert_eq!(
        decide_block(MarkerSyntax::Hash, "one\n", Some(&text), Mode::Remove),
        Decision::kept(CHANGED_BY_HAND)
    );
    let forced = decide_block(MarkerSyntax::Hash, "one\n", Some(&text), Mode::Put { force: true });
    assert!(forced.keep_copy, "{forced:?}");
}

#[test]
fn marks_that_are_no_pair_are_left_alone_and_named() {
    for (text, why) in [
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
                Decision::kept(why),
                "{text}"
            );
        }
    }
}
