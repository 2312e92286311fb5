//! The channel `desktop`: a notification on the desktop of the user who started the relay.

use common::record::{JobRecord, State};
use common::text_format;
use notify_rust::{Notification, Timeout};
use tokio::time::timeout;

use super::shared::ATTEMPT_TIMEOUT;
use crate::daemon::deliver::schedule::DeliveryOutcome;
use crate::{failure_text, notice};

/// Maximum length of the text below a notification's headline, in bytes: desktops show no more.
const MAX_BODY: usize = 200;

/// Shows the notification. Fails with the reason on a machine without a desktop.
pub(super) async fn show_notification(record: &JobRecord) -> DeliveryOutcome {
    let (headline, body) = (notice::format_headline(record), notification_body(record));
    let show_task = tokio::task::spawn_blocking(move || {
        let mut notification = Notification::new();
        notification.appname("relay").summary(&headline).body(&body).timeout(Timeout::Default);
        notification.show().map(drop).map_err(|e| text_format::one_line(&e.to_string(), MAX_BODY))
    });
    match timeout(ATTEMPT_TIMEOUT, show_task).await {
        Ok(Ok(Ok(()))) => DeliveryOutcome::Accepted,
        Ok(Ok(Err(reason))) => {
            DeliveryOutcome::Failed(format!("the desktop showed no notification: {reason}"))
        }
        Ok(Err(_)) => DeliveryOutcome::Failed("the desktop showed no notification".to_owned()),
        Err(_) => DeliveryOutcome::Failed(format!(
            "the desktop did not answer within {} s",
            ATTEMPT_TIMEOUT.as_secs()
        )),
    }
}

fn notification_body(record: &JobRecord) -> String {
    let body = match record.state {
        State::Failed => failure_text::failure_reason(record),
        _ => record.message.clone().unwrap_or_else(|| record.prompt_summary.clone()),
    };
    // Some desktops interpret markup.
    text_format::one_line(&body, MAX_BODY).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn markup_of_a_worker_is_escaped() {
        let mut record = samples::completed_record();
        record.message = Some("<a href='x'>Done</a> & more\u{1b}[0m\nsecond line".into());
        assert_eq!(notification_body(&record), "&lt;a href='x'&gt;Done&lt;/a&gt; &amp; more[0m");
    }
}
