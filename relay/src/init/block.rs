//! A marked block in a text that belongs to a person. Text outside of the markers is never changed.

use std::ops::Range;

use super::change::{CHANGED_BY_HAND, Decision, Mode};
use super::checksum;

/// Comment syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkerSyntax {
    /// `<!-- … -->`
    Html,
    /// `# …`
    Hash,
}

impl MarkerSyntax {
    fn begin_marker(self) -> &'static str {
        match self {
            Self::Html => "<!-- relay:begin",
            Self::Hash => "# relay:begin",
        }
    }

    fn end_marker(self) -> &'static str {
        match self {
            Self::Html => "<!-- relay:end -->",
            Self::Hash => "# relay:end",
        }
    }

    /// Returns the whole block, without a line break at its end.
    fn whole_block(self, body: &str) -> String {
        let close = match self {
            Self::Html => " -->",
            Self::Hash => "",
        };
        let (begin, end) = (self.begin_marker(), self.end_marker());
        checksum::with_checksum(&format!(
            "{begin} (checksum @sum@) written by `relay init`{close}\n{body}{end}"
        ))
    }
}

/// Compares the block with this `body` (complete lines; empty for no block) to the existing text, and returns the
/// change.
///
/// A text that ends without a line break also ends without one after the block was appended, so that a removal can
/// restore it.
pub(super) fn decide_block(marks: MarkerSyntax, body: &str, existing: Option<&str>, mode: Mode) -> Decision {
    let text = existing.unwrap_or_default();
    let found = match find_block(marks, text) {
        Ok(found) => found,
        Err(why) => return Decision::kept(why),
    };
    let Some(at) = found else {
        return match mode {
            Mode::Put { .. } if !body.is_empty() => {
                Decision::write(with_block_appended(existing, &marks.whole_block(body)))
            }
            Mode::Put { .. } | Mode::Remove => Decision::nothing(),
        };
    };
    let old = text.get(at.clone()).unwrap_or_default();
    let untouched = checksum::is_unchanged(old);
    match mode {
        Mode::Put { force } if untouched || force => {
            let new = if body.is_empty() {
                without_block(text, at)
            } else {
                let block = marks.whole_block(body);
                if old.replace("\r\n", "\n") == block {
                    return Decision::nothing();
                }
                Some(with_block_replaced(text, at, &block))
            };
            Decision { keep_copy: !untouched, ..new.map_or_else(Decision::delete, Decision::write) }
        }
        Mode::Remove if untouched => without_block(text, at).map_or_else(Decision::delete, Decision::write),
        Mode::Put { .. } | Mode::Remove => Decision::kept(CHANGED_BY_HAND),
    }
}

pub(super) fn text_outside(marks: MarkerSyntax, text: &str) -> String {
    match find_block(marks, text) {
        Ok(Some(at)) => [text.get(..at.start), text.get(at.end..)].into_iter().flatten().collect(),
        Ok(None) | Err(_) => text.to_owned(),
    }
}

/// Returns the position of the block, without the line break after it.
///
/// # Errors
/// Returns an error if the text has markers that are not exactly one pair.
fn find_block(marks: MarkerSyntax, text: &str) -> Result<Option<Range<usize>>, &'static str> {
    let (mut begin, mut found) = (None, None);
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim_end();
        if line.starts_with(marks.begin_marker()) {
            if begin.is_some() || found.is_some() {
                return Err("it has more than one relay:begin");
            }
            begin = Some(start);
        } else if line == marks.end_marker() {
            let Some(begin) = begin.take() else { return Err("it has a relay:end without its relay:begin") };
            found = Some(begin..start + line.len());
        }
    }
    if begin.is_some() { Err("it has a relay:begin without its relay:end") } else { Ok(found) }
}

fn with_block_appended(existing: Option<&str>, block: &str) -> String {
    let Some(text) = existing else { return format!("{block}\n") };
    let block = with_line_endings(text, block);
    let line = line_ending(text);
    match text.ends_with('\n') {
        true => format!("{text}{line}{block}{line}"),
        false if text.is_empty() => format!("{line}{block}{line}"),
        false => format!("{text}{line}{line}{block}"),
    }
}

fn with_block_replaced(text: &str, range: Range<usize>, block: &str) -> String {
    let mut new = text.to_owned();
    new.replace_range(range, &with_line_endings(text, block));
    new
}

/// Returns the text without the block and the line breaks that [`with_block_appended`] added; `None` if the file was
/// created for the block.
fn without_block(text: &str, range: Range<usize>) -> Option<String> {
    let line = line_ending(text);
    let (before, after) =
        (text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default());
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

fn line_ending(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn with_line_endings(text: &str, block: &str) -> String {
    block.replace('\n', line_ending(text))
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
