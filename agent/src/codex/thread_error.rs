//! The reason why Codex can't resume a thread, as one line that a user can act on. Pure.
//!
//! Codex 0.169.0 prints it only on stderr, and exits with 1 before any turn. The words only explain that exit.

/// Returns the reason why the thread could not be resumed, from Codex's last lines on stderr; `None` if they have
/// another subject.
pub(crate) fn resume_failure_reason(words: &str) -> Option<&'static str> {
    if words.contains("no rollout found for thread id") {
        return Some("the Codex thread is gone: launch a new job");
    }
    if words.contains("already has an active writer") {
        return Some("another process uses the same Codex thread: wait until it ends, then resume again");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_gone_or_taken_is_told_from_other_trouble() {
        let said = |words: &str| {
            resume_failure_reason(&format!("Error: thread/resume: thread/resume failed: {words}"))
        };
        let gone = "no rollout found for thread id 01a203ca-9b3a-74f0-a0f9-92040009a617 (code -32600)";
        assert_eq!(said(gone), Some("the Codex thread is gone: launch a new job"));
        let taken = said("thread 01a203ca already has an active writer (code -32600)").unwrap();
        assert!(taken.contains("resume again"), "{taken}");
        assert_eq!(said("out of luck"), None);
    }
}
