//! A file of init's own, which exists as a whole or not at all.

use super::change::{BY_HAND, Verdict, Wish};
use super::checksum;

/// Compares the file `text` (without its checksum) to the existing text `there` and decides on the change.
pub(super) fn judge(text: &str, there: Option<&str>, wish: Wish) -> Verdict {
    match (wish, there) {
        (Wish::Put { .. }, None) => Verdict::write(checksum::stamped(text)),
        (Wish::Remove, None) => Verdict::nothing(),
        (Wish::Put { .. }, Some(there)) if there.replace("\r\n", "\n") == checksum::stamped(text) => {
            Verdict::nothing()
        }
        (Wish::Put { .. }, Some(there)) if checksum::is_untouched(there) => {
            Verdict::write(checksum::stamped(text))
        }
        (Wish::Put { force: true }, Some(_)) => Verdict::replace(checksum::stamped(text)),
        (Wish::Remove, Some(there)) if checksum::is_untouched(there) => Verdict::delete(),
        (Wish::Put { .. } | Wish::Remove, Some(_)) => Verdict::kept(BY_HAND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# (checksum @sum@)\nnew\n";
    const PUT: Wish = Wish::Put { force: false };

    #[test]
    fn a_file_is_written_once_and_updated_while_nobody_changes_it() {
        let new = checksum::stamped(TEXT);
        let old = checksum::stamped("# (checksum @sum@)\nold\n");
        assert_eq!(judge(TEXT, None, PUT), Verdict::write(new.clone()));
        assert_eq!(judge(TEXT, Some(&new), PUT), Verdict::nothing());
        assert_eq!(judge(TEXT, Some(&new.replace('\n', "\r\n")), PUT), Verdict::nothing());
        assert_eq!(judge(TEXT, Some(&old), PUT), Verdict::write(new.clone()));
        assert_eq!(judge(TEXT, Some(&old), Wish::Remove), Verdict::delete());
        assert_eq!(judge(TEXT, None, Wish::Remove), Verdict::nothing());
    }

    #[test]
    fn what_a_person_changed_stays_unless_it_is_forced_and_then_in_a_copy() {
        let theirs = format!("{}mine\n", checksum::stamped(TEXT));
        for theirs in [theirs.as_str(), "mine\n", ""] {
            assert_eq!(judge(TEXT, Some(theirs), PUT), Verdict::kept(BY_HAND));
            assert_eq!(judge(TEXT, Some(theirs), Wish::Remove), Verdict::kept(BY_HAND));
            let forced = judge(TEXT, Some(theirs), Wish::Put { force: true });
            assert_eq!(forced, Verdict::replace(checksum::stamped(TEXT)));
        }
    }
}
