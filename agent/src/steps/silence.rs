//! What is known about a model that says nothing. Pure.

/// What was seen since Codex began to wait.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// The model had begun to speak.
    pub(crate) heard: bool,
    /// The last notice of trouble since it spoke.
    pub(crate) trouble: Option<String>,
}

impl Silence {
    /// Why the model is silent, for the message of a job that gives up on it.
    pub(crate) fn why(&self) -> &str {
        match (&self.trouble, self.heard) {
            (Some(trouble), _) => trouble,
            (None, true) => "it had begun to answer and then said nothing more",
            // Codex's first notice takes up to a minute, so this can't be said for certain.
            (None, false) => {
                "codex tells of no trouble: it seems the server accepted the request and never answered"
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
            Silence { heard, trouble: trouble.map(str::to_owned) }.why().to_owned()
        };
        assert_eq!(why(true, Some("codex retries (3/5: 503)")), "codex retries (3/5: 503)");
        assert!(why(true, None).contains("begun to answer"));
        assert!(why(false, None).contains("accepted the request and never answered"));
    }
}
