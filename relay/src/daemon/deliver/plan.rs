//! Chooses the channels of a new notification.

use std::time::Duration;

use common::record::JobRecord;
use jiff::Timestamp;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::config::NotifyConfig;
use crate::registry::outbox::{ChannelDelivery, ChannelState, OutboxEntry, SCHEMA_VERSION};
use common::origin::Session;

/// Delay before a message is sent to the session that launched the job. Until then, a `relay wait` of that session may
/// show the notification.
const DEBOUNCE: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum ChannelKind {
    /// Message to the Codex session that launched the job.
    Codex,
    /// Desktop notification.
    Desktop,
    /// The user's program.
    Command,
    /// Webhook: an HTTP POST.
    Webhook,
}

impl ChannelKind {
    pub(super) const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the name of the channel in an outbox entry.
    pub(super) fn as_str(self) -> &'static str {
        self.into()
    }

    pub(super) fn is_configured(self, config: &NotifyConfig) -> bool {
        match self {
            Self::Codex => true,
            Self::Desktop => config.notifies_desktop,
            Self::Command => !config.command.is_empty(),
            Self::Webhook => config.webhook.is_some(),
        }
    }
}

/// Returns the outbox entry of an ended job; `None` for an unfinished job.
pub(super) fn plan_entry(
    record: &JobRecord,
    config: &NotifyConfig,
    accepts_messages: impl Fn(&Session) -> bool,
    now: Timestamp,
) -> Option<OutboxEntry> {
    let ended_at = record.finished_at?;
    let session = record.origin.session.clone();
    let notifies_people = config.notified_states.contains(&record.state);
    let is_wanted = |kind: &ChannelKind| match kind {
        ChannelKind::Codex => session.as_ref().is_some_and(&accepts_messages),
        kind => notifies_people && kind.is_configured(config),
    };
    let channel = |kind: ChannelKind| {
        let next_at = if kind == ChannelKind::Codex { now + DEBOUNCE } else { now };
        (
            kind.as_str().to_owned(),
            ChannelDelivery {
                state: ChannelState::Pending,
                attempts: 0,
                next_at: Some(next_at),
                last_error: None,
            },
        )
    };
    let channels = ChannelKind::ALL.iter().copied().filter(is_wanted).map(channel).collect();
    Some(OutboxEntry { schema: SCHEMA_VERSION, job: record.job.clone(), ended_at, session, channels })
}

#[cfg(test)]
mod tests {
    use common::record::State;

    use super::*;
    use crate::config::Webhook;
    use crate::render::samples;

    fn channels(record: &JobRecord, config: &NotifyConfig) -> Vec<String> {
        plan_entry(record, config, |_| true, samples::at(700)).unwrap().channels.into_keys().collect()
    }

    #[test]
    fn a_notice_goes_to_the_session_and_to_the_configured_channels() {
        let mut record = samples::completed_record();
        let mut config = NotifyConfig::default();
        assert_eq!(channels(&record, &config), [""; 0]);
        record.origin.session = Some(Session { agent: "codex".into(), id: "t-1".into(), home: None });
        assert_eq!(channels(&record, &config), ["codex"]);
        config.command = vec!["true".into()];
        config.notifies_desktop = true;
        config.webhook = Some(Webhook { url: "http://h/".into(), secret: None });
        assert_eq!(channels(&record, &config), ["codex", "command", "desktop", "webhook"]);
        config.notified_states = vec![State::Failed];
        assert_eq!(channels(&record, &config), ["codex"]);
    }

    #[test]
    fn a_session_that_accepts_no_messages_gets_no_channel() {
        let mut record = samples::completed_record();
        record.origin.session = Some(Session { agent: "claude".into(), id: "t-1".into(), home: None });
        let entry = plan_entry(&record, &NotifyConfig::default(), |_| false, samples::at(700)).unwrap();
        assert_eq!((entry.session, entry.channels.len()), (record.origin.session, 0));
    }

    #[test]
    fn a_running_job_has_no_entry() {
        assert_eq!(
            plan_entry(&samples::running_record(), &NotifyConfig::default(), |_| true, samples::at(1)),
            None
        );
    }
}
