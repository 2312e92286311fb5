//! A marked block in a text that otherwise belongs to a person. Text outside of the marks is never changed.

use std::ops::Range;

use super::change::{BY_HAND, Decision, Mode};
use super::checksum;

/// Comment syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// `<!-- … -->`
    Html,
    /// `# …`
    Hash,
}

impl Marks {
    fn begin(self) -> &'static str {
        match self {
            Self::Html => "<!-- relay:begin",
            Self::Hash => "# relay:begin",
        }
    }

    fn end(self) -> &'static str {
        match self {
            Self::Html => "<!-- relay:end -->",
            Self::Hash => "# relay:end",
        }
    }

    /// Returns the whole block, without a line break at its end.
    fn block(self, body: &str) -> String {
        let close = match self {
            Self::Html => " -->",
            Self::Hash => "",
        };
        let (begin, end) = (self.begin(), self.end());
        checksum::stamped(&format!("{begin} (checksum @sum@) written by `relay init`{close}\n{body}{end}"))
    }
}

/// Compares the block with this `body` (whole lines; none for no block) to the existing text `there` and decides on the
/// change.
///
/// A text that ends without a line break still does when the block has been appended, so that a removal can restore it.
pub(super) fn decide_block(marks: Marks, body: &str, there: Option<&str>, mode: Mode) -> Decision {
    let text = there.unwrap_or_default();
    let found = match find(marks, text) {
        Ok(found) => found,
        Err(why) => return Decision::kept(why),
    };
    let Some(at) = found else {
        return match mode {
            Mode::Put { .. } if !body.is_empty() => Decision::write(appended(there, &marks.block(body))),
            Mode::Put { .. } | Mode::Remove => Decision::nothing(),
        };
    };
    let old = text.get(at.clone()).unwrap_or_default();
    let untouched = checksum::is_untouched(old);
    match mode {
        Mode::Put { force } if untouched || force => {
            let new = if body.is_empty() {
                without(text, at)
            } else {
                let block = marks.block(body);
                if old.replace("\r\n", "\n") == block {
                    return Decision::nothing();
                }
                Some(replaced(text, at, &block))
            };
            Decision { copy: !untouched, ..new.map_or_else(Decision::delete, Decision::write) }
        }
        Mode::Remove if untouched => without(text, at).map_or_else(Decision::delete, Decision::write),
        Mode::Put { .. } | Mode::Remove => Decision::kept(BY_HAND),
    }
}

pub(super) fn outside(marks: Marks, text: &str) -> String {
    match find(marks, text) {
        Ok(Some(at)) => [text.get(..at.start), text.get(at.end..)].into_iter().flatten().collect(),
        Ok(None) | Err(_) => text.to_owned(),
    }
}

/// Position of the block, without the line break after it.
///
/// # Errors
/// Returns an error if its marks are not exactly one pair.
fn find(marks: Marks, text: &str) -> Result<Option<Range<usize>>, &'static str> {
    let (mut begin, mut found) = (None, None);
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim_end();
        if line.starts_with(marks.begin()) {
            if begin.is_some() || found.is_some() {
                return Err("it has more than one relay:begin");
            }
            begin = Some(start);
        } else if line == marks.end() {
            let Some(begin) = begin.take() else { return Err("it has a relay:end without its relay:begin") };
            found = Some(begin..start + line.len());
        }
    }
    if begin.is_some() { Err("it has a relay:begin without its relay:end") } else { Ok(found) }
}

fn appended(there: Option<&str>, block: &str) -> String {
    let Some(text) = there else { return format!("{block}\n") };
    let block = with_line_ends(text, block);
    let line = line_end(text);
    match text.ends_with('\n') {
        true => format!("{text}{line}{block}{line}"),
        false if text.is_empty() => format!("{line}{block}{line}"),
        false => format!("{text}{line}{line}{block}"),
    }
}

fn replaced(text: &str, at: Range<usize>, block: &str) -> String {
    let mut new = text.to_owned();
    new.replace_range(at, &with_line_ends(text, block));
    new
}

/// Returns the text without the block and without what [`appended`] put around it; `None` if the file was created for
/// the block.
fn without(text: &str, at: Range<usize>) -> Option<String> {
    let line = line_end(text);
    let (before, after) = (text.get(..at.start).unwrap_or_default(), text.get(at.end..).unwrap_or_default());
    if before.is_empty() && (after.is_empty() || after == line) {
        return None;
    }
    let blank = line.repeat(2);
    let before = if after.is_empty() {
        before.strip_suffix(blank.as_str()).unwrap_or(before)
    } else if before == line || before.ends_with(&blank) {
        before.strip_suffix(line).unwrap_or(before)
    } else {
        before
    };
    Some(format!("{before}{}", after.strip_prefix(line).unwrap_or(after)))
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn with_line_ends(text: &str, block: &str) -> String {
    block.replace('\n', line_end(text))
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
