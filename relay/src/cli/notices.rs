//! `relay notices`

use clap::Args;
use common::record::JobRecord;

use super::help::after_help;
use super::{Context, session};
use crate::exit::{Code, Failure};
use crate::notice;
use crate::registry::lease;
use crate::registry::outbox::Shown;
use crate::registry::unseen::{self, Unseen};

/// Maximum number of notices shown per call: a page of text.
const MAX_SHOWN: usize = 5;

/// Flags of `relay notices`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Each ended job is shown once: here, by a hook (`relay hook`), by `relay wait` or `relay run`, or \
     in the Codex session that launched it. Prints nothing if nothing is new, so that it fits into a \
     prompt or a script.",
    ["relay notices", "relay notices --peek"]
))]
pub struct NoticesArgs {
    /// Show them again next time
    #[arg(long)]
    pub(super) peek: bool,
}

/// Prints up to [`MAX_SHOWN`] unclaimed completion notices. The next call prints the others.
///
/// # Errors
/// Exit code 5 if the outbox can't be read or written: a notice that can't be claimed would be shown again by every
/// call.
pub fn run(args: &NoticesArgs, context: &Context) -> Result<Code, Failure> {
    let registry = &context.registry;
    let unreadable = |e: &std::io::Error| {
        Failure::unreachable(format!("{} can't be read: {e}", registry.outbox().path().display()))
    };
    let ends = unseen::unclaimed_notices(registry).map_err(|e| unreadable(&e))?;
    let session = session::session(&|key| context.variable(key));
    let shown = Shown { at: lease::now(registry), by: "notices".to_owned(), session };
    let taken = unseen::claim_notices(registry, &ends, MAX_SHOWN, (!args.peek).then_some(&shown))
        .map_err(|e| registry.not_writable(&e))?;
    if taken.records.is_empty() {
        return Ok(Code::Done);
    }
    let output = &context.output;
    if output.json {
        for record in &taken.records {
            output.json(record);
        }
        if let Some(rest) = rest(taken.left) {
            output.note(&rest);
        }
    } else {
        for record in &taken.records {
            output.fact(record);
        }
        output.print(&text(&taken));
    }
    if output.is_closed() && !args.peek {
        unseen::release_claims(registry, &taken.records);
    }
    Ok(Code::Done)
}

/// Formats the notices, and the number of those left.
pub fn text(taken: &Unseen) -> String {
    let ends = taken.records.iter().map(|record: &JobRecord| notice::text(record).trim_end().to_owned());
    ends.chain(rest(taken.left)).collect::<Vec<_>>().join("\n\n")
}

fn rest(left: usize) -> Option<String> {
    let verb = if left == 1 { "1 more job has" } else { &format!("{left} more jobs have") };
    (left > 0).then(|| format!("{verb} ended: `relay notices` shows the next"))
}

#[cfg(test)]
mod tests {
    use common::record::State;

    use super::*;
    use crate::render::samples;

    #[test]
    fn what_does_not_fit_is_counted() {
        let taken = |left| Unseen {
            records: vec![samples::bare("a#1", State::Completed), samples::bare("b#1", State::Cancelled)],
            left,
        };
        let both = text(&taken(0));
        assert!(both.contains("a#1") && both.contains("b#1") && !both.contains("more"), "{both}");
        assert!(text(&taken(1)).ends_with("\n\n1 more job has ended: `relay notices` shows the next"));
        assert!(text(&taken(7)).ends_with("\n\n7 more jobs have ended: `relay notices` shows the next"));
    }
}
