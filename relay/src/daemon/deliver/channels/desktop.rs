//! Notification on the desktop of the user who started the relay.

use common::record::{JobRecord, State};
use common::text;
use notify_rust::{Notification, Timeout};
use tokio::time::timeout;

use super::attempt::TIME_LIMIT;
use crate::daemon::deliver::schedule::Outcome;
use crate::{failure_text, notice};

/// Maximum length of the text below the headline, in bytes: desktops show no more.
const MAX_BODY: usize = 200;

/// Shows the notification. Fails with the reason on a machine without a desktop.
pub(super) async fn show_notification(record: &JobRecord) -> Outcome {
    let (headline, body) = (notice::headline(record), body(record));
    let shown = tokio::task::spawn_blocking(move || {
        let mut notification = Notification::new();
        notification.appname("relay").summary(&headline).body(&body).timeout(Timeout::Default);
        notification.show().map(drop).map_err(|e| text::one_line(&e.to_string(), MAX_BODY))
    });
    match timeout(TIME_LIMIT, shown).await {
        Ok(Ok(Ok(()))) => Outcome::Taken,
        Ok(Ok(Err(reason))) => Outcome::Failed(format!("the desktop showed no notification: {reason}")),
        Ok(Err(_)) => Outcome::Failed("the desktop showed no notification".to_owned()),
        Err(_) => Outcome::Failed(format!("the desktop did not answer within {} s", TIME_LIMIT.as_secs())),
    }
}

fn body(record: &JobRecord) -> String {
    let said = match record.state {
        State::Failed => failure_text::reason(record),
        _ => record.message.clone().unwrap_or_else(|| record.prompt_summary.clone()),
    };
    // Some desktops interpret markup.
    text::one_line(&said, MAX_BODY).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_worker_can_put_no_markup_on_the_desktop() {
        let mut record = samples::completed();
        record.message = Some("<a href='x'>Done</a> & more\u{1b}[0m\nsecond line".into());
        assert_eq!(body(&record), "&lt;a href='x'&gt;Done&lt;/a&gt; &amp; more[0m");
    }
}
