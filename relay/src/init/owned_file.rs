//! A file that belongs to init as a whole, unlike a block or an entry in another file.

use super::change::{BY_HAND, Decision, Mode};
use super::checksum;

/// Compares the file `text` (without its checksum) to the existing text `there` and decides on the change.
pub(super) fn decide_file(text: &str, there: Option<&str>, mode: Mode) -> Decision {
    match (mode, there) {
        (Mode::Put { .. }, None) => Decision::write(checksum::stamped(text)),
        (Mode::Remove, None) => Decision::nothing(),
        (Mode::Put { .. }, Some(there)) if there.replace("\r\n", "\n") == checksum::stamped(text) => {
            Decision::nothing()
        }
        (Mode::Put { .. }, Some(there)) if checksum::is_untouched(there) => {
            Decision::write(checksum::stamped(text))
        }
        (Mode::Put { force: true }, Some(_)) => Decision::replace(checksum::stamped(text)),
        (Mode::Remove, Some(there)) if checksum::is_untouched(there) => Decision::delete(),
        (Mode::Put { .. } | Mode::Remove, Some(_)) => Decision::kept(BY_HAND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# (checksum @sum@)\nnew\n";
    const PUT: Mode = Mode::Put { force: false };

    #[test]
    fn a_file_is_written_once_and_updated_while_nobody_changes_it() {
        let new = checksum::stamped(TEXT);
        let old = checksum::stamped("# (checksum @sum@)\nold\n");
        assert_eq!(decide_file(TEXT, None, PUT), Decision::write(new.clone()));
        assert_eq!(decide_file(TEXT, Some(&new), PUT), Decision::nothing());
        assert_eq!(decide_file(TEXT, Some(&new.replace('\n', "\r\n")), PUT), Decision::nothing());
        assert_eq!(decide_file(TEXT, Some(&old), PUT), Decision::write(new.clone()));
        assert_eq!(decide_file(TEXT, Some(&old), Mode::Remove), Decision::delete());
        assert_eq!(decide_file(TEXT, None, Mode::Remove), Decision::nothing());
    }

    #[test]
    fn what_a_person_changed_stays_unless_it_is_forced_and_then_in_a_copy() {
        let theirs = format!("{}mine\n", checksum::stamped(TEXT));
        for theirs in [theirs.as_str(), "mine\n", ""] {
            assert_eq!(decide_file(TEXT, Some(theirs), PUT), Decision::kept(BY_HAND));
            assert_eq!(decide_file(TEXT, Some(theirs), Mode::Remove), Decision::kept(BY_HAND));
            let forced = decide_file(TEXT, Some(theirs), Mode::Put { force: true });
            assert_eq!(forced, Decision::replace(checksum::stamped(TEXT)));
        }
    }
}
