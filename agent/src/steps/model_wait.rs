//! Evidence about a model that sends nothing. Pure.

/// Observations since Codex began to wait for the model.
#[derive(Debug, Default)]
pub(crate) struct ModelWait {
    /// True once the model has begun to answer.
    pub(crate) answer_started: bool,
    /// The last error notice since the model last answered.
    pub(crate) last_error: Option<String>,
}

impl ModelWait {
    /// Returns the reason for the silence, for the message of a job that fails for it.
    pub(crate) fn reason(&self) -> &str {
        match (&self.last_error, self.answer_started) {
            (Some(trouble), _) => trouble,
            (None, true) => "it began to answer and then stopped",
            // Codex's first notice takes up to a minute, so the cause is not certain.
            (None, false) => {
                "codex reports no error: the server seems to have accepted the request and never answered"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_notice_says_more_than_anything_else() {
        let why = |heard, trouble: Option<&str>| {
            ModelWait { answer_started: heard, last_error: trouble.map(str::to_owned) }.reason().to_owned()
        };
        assert_eq!(why(true, Some("codex retries (3/5: 503)")), "codex retries (3/5: 503)");
        assert!(why(true, None).contains("began to answer"));
        assert!(why(false, None).contains("accepted the request and never answered"));
    }
}
