//! File that belongs to init as a whole, unlike a block or an entry in another file.

use super::change::{CHANGED_BY_HAND, Decision, Mode};
use super::checksum;

/// Compares the file `text` (without its checksum) to the existing text, and returns the change.
pub(super) fn decide_file(text: &str, existing: Option<&str>, mode: Mode) -> Decision {
    match (mode, existing) {
        (Mode::Put { .. }, None) => Decision::write(checksum::with_checksum(text)),
        (Mode::Remove, None) => Decision::nothing(),
        (Mode::Put { .. }, Some(existing))
            if existing.replace("\r\n", "\n") == checksum::with_checksum(text) =>
        {
            Decision::nothing()
        }
        (Mode::Put { .. }, Some(existing)) if checksum::is_unchanged(existing) => {
            Decision::write(checksum::with_checksum(text))
        }
        (Mode::Put { force: true }, Some(_)) => Decision::replace(checksum::with_checksum(text)),
        (Mode::Remove, Some(existing)) if checksum::is_unchanged(existing) => Decision::delete(),
        (Mode::Put { .. } | Mode::Remove, Some(_)) => Decision::kept(CHANGED_BY_HAND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# (checksum @sum@)\nnew\n";
    const PUT: Mode = Mode::Put { force: false };

    #[test]
    fn a_file_is_written_and_updated_until_a_person_changes_it() {
        let new = checksum::with_checksum(TEXT);
        let old = checksum::with_checksum("# (checksum @sum@)\nold\n");
        assert_eq!(decide_file(TEXT, None, PUT), Decision::write(new.clone()));
        assert_eq!(decide_file(TEXT, Some(&new), PUT), Decision::nothing());
        assert_eq!(decide_file(TEXT, Some(&new.replace('\n', "\r\n")), PUT), Decision::nothing());
        assert_eq!(decide_file(TEXT, Some(&old), PUT), Decision::write(new.clone()));
        assert_eq!(decide_file(TEXT, Some(&old), Mode::Remove), Decision::delete());
        assert_eq!(decide_file(TEXT, None, Mode::Remove), Decision::nothing());
    }

    #[test]
    fn a_changed_file_stays_and_a_forced_write_keeps_a_copy() {
        let edited_text = format!("{}mine\n", checksum::with_checksum(TEXT));
        for edited_text in [edited_text.as_str(), "mine\n", ""] {
            assert_eq!(decide_file(TEXT, Some(edited_text), PUT), Decision::kept(CHANGED_BY_HAND));
            assert_eq!(decide_file(TEXT, Some(edited_text), Mode::Remove), Decision::kept(CHANGED_BY_HAND));
            let forced = decide_file(TEXT, Some(edited_text), Mode::Put { force: true });
            assert_eq!(forced, Decision::replace(checksum::with_checksum(TEXT)));
        }
    }
}
