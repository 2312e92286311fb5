//! Block of init between markers, in a text that belongs to a person. Text outside of the markers is never changed.

use std::ops::Range;

use super::change::{CHANGED_BY_HAND, Decision, Mode};
use super::checksum;

/// Comment syntax of the markers in a file.
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

    /// Returns the block with its markers, without a line break at its end.
    fn format_block(self, body: &str) -> String {
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
pub(super) fn decide_block(syntax: MarkerSyntax, body: &str, existing: Option<&str>, mode: Mode) -> Decision {
    let text = existing.unwrap_or_default();
    let range = match find_block(syntax, text) {
        Ok(range) => range,
        Err(reason) => return Decision::kept(reason),
    };
    let Some(range) = range else {
        return match mode {
            Mode::Put { .. } if !body.is_empty() => {
                Decision::write(with_block_appended(existing, &syntax.format_block(body)))
            }
            Mode::Put { .. } | Mode::Remove => Decision::nothing(),
        };
    };
    let old = text.get(range.clone()).unwrap_or_default();
    let is_untouched = checksum::is_unchanged(old);
    match mode {
        Mode::Put { force } if is_untouched || force => {
            let new = if body.is_empty() {
                without_block(text, range)
            } else {
                let block = syntax.format_block(body);
                if old.replace("\r\n", "\n") == block {
                    return Decision::nothing();
                }
                Some(with_block_replaced(text, range, &block))
            };
            Decision { keeps_copy: !is_untouched, ..new.map_or_else(Decision::delete, Decision::write) }
        }
        Mode::Remove if is_untouched => {
            without_block(text, range).map_or_else(Decision::delete, Decision::write)
        }
        Mode::Put { .. } | Mode::Remove => Decision::kept(CHANGED_BY_HAND),
    }
}

pub(super) fn text_outside(syntax: MarkerSyntax, text: &str) -> String {
    match find_block(syntax, text) {
        Ok(Some(range)) => [text.get(..range.start), text.get(range.end..)].into_iter().flatten().collect(),
        Ok(None) | Err(_) => text.to_owned(),
    }
}

/// Returns the position of the block, without the line break after it.
///
/// # Errors
/// Returns an error if the text has markers that are not exactly one pair.
fn find_block(syntax: MarkerSyntax, text: &str) -> Result<Option<Range<usize>>, &'static str> {
    let (mut block_start, mut block) = (None, None);
    let mut next_start = 0;
    for line in text.split_inclusive('\n') {
        let line_start = next_start;
        next_start += line.len();
        let line = line.trim_end();
        if line.starts_with(syntax.begin_marker()) {
            if block_start.is_some() || block.is_some() {
                return Err("it has more than one relay:begin");
            }
            block_start = Some(line_start);
        } else if line == syntax.end_marker() {
            let Some(block_start) = block_start.take() else {
                return Err("it has a relay:end without its relay:begin");
            };
            block = Some(block_start..line_start + line.len());
        }
    }
    if block_start.is_some() { Err("it has a relay:begin without its relay:end") } else { Ok(block) }
}

fn with_block_appended(existing: Option<&str>, block: &str) -> String {
    let Some(text) = existing else { return format!("{block}\n") };
    let block = with_line_endings(text, block);
    let newline = line_ending(text);
    match text.ends_with('\n') {
        true => format!("{text}{newline}{block}{newline}"),
        false if text.is_empty() => format!("{newline}{block}{newline}"),
        false => format!("{text}{newline}{newline}{block}"),
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
    let newline = line_ending(text);
    let (before, after) =
        (text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default());
    if before.is_empty() && (after.is_empty() || after == newline) {
        return None;
    }
    let blank_line = newline.repeat(2);
    let before = if after.is_empty() {
        before.strip_suffix(blank_line.as_str()).unwrap_or(before)
    } else if before == newline || before.ends_with(&blank_line) {
        before.strip_suffix(newline).unwrap_or(before)
    } else {
        before
    };
    Some(format!("{before}{}", after.strip_prefix(newline).unwrap_or(after)))
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
