//! The task of a job, read from an argument, a file or stdin.

#![expect(clippy::disallowed_methods, reason = "the caller names the file of the prompt")]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use common::job::MAX_PROMPT;

use crate::exit::Failure;

/// Returns the task and the arguments for Codex. The words after `--` are arguments for Codex, but a single word is the
/// task if no other task is given.
pub fn task_and_codex_args<'a>(
    typed_prompt: Option<&'a str>,
    has_file: bool,
    words: &'a [String],
) -> (Option<&'a str>, &'a [String]) {
    match words {
        [task] if typed_prompt.is_none() && !has_file => (Some(task), &[]),
        words => (typed_prompt, words),
    }
}

/// Reads the task: from the command line, a file or stdin.
///
/// # Errors
/// Exit code 2 with one line that names the fix.
pub fn read_prompt(
    typed_prompt: Option<&str>,
    file: Option<&Path>,
    stdin: impl Read,
) -> Result<String, Failure> {
    let text = match (typed_prompt, file) {
        (Some("-"), _) => read_from("stdin", stdin)?,
        (Some(prompt), _) => prompt.to_owned(),
        (None, Some(file)) if file.as_os_str() == "-" => read_from("stdin", stdin)?,
        (None, Some(file)) => {
            let file_name = file.display().to_string();
            let opened = File::open(file);
            read_from(
                &file_name,
                opened.map_err(|e| Failure::usage(format!("prompt file {file_name}: {e}")))?,
            )?
        }
        (None, None) => {
            return Err(Failure::usage("no task: give it as PROMPT, with -f FILE, or as - for stdin"));
        }
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("the prompt is empty: say what the worker is to do"));
    }
    check_length(text)
}

/// Rejects a task longer than [`MAX_PROMPT`].
///
/// # Errors
/// Exit code 2.
pub fn check_length(text: String) -> Result<String, Failure> {
    if text.len() > MAX_PROMPT {
        return Err(Failure::usage(format!(
            "the prompt is longer than {MAX_PROMPT} bytes: put the details into a file of the workspace and name it"
        )));
    }
    Ok(text)
}

/// Reads a prompt, but at most one byte more than the maximum length. Errors name `source`.
fn read_from(source: &str, reader: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_PROMPT as u64 + 1)
        .read_to_end(&mut bytes)
        .and_then(|_| {
            let is_too_long = bytes.len() > MAX_PROMPT;
            // The read limit may have split a character. A text that is too long is rejected later.
            if is_too_long { Ok(String::from_utf8_lossy(&bytes).into_owned()) } else { decode_utf8(bytes) }
        })
        .map_err(|e| Failure::usage(format!("the prompt can't be read from {source}: {e}")))
}

fn decode_utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}
