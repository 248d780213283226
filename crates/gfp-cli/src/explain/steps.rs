//! What a request does, in order: its own plan, driven over a machine on which nothing is gained.

use gfp::policy::effort::{
    Backoff, CompactOutcome, Compaction, Effort, Event, Now, OomRule, Plan, Question, Rounds, Step,
};
use gfp::policy::watermark::{AllocFlags, WatermarkLevel};

use super::facts::{Said, pass, priority, said, why_no_kill};

/// One turn with nothing gained is shorter than this.
const MAX_STEPS: usize = 64;

/// The steps of one turn, from the fast pass to the end or to the next turn.
pub(super) fn steps(effort: &Effort) -> Vec<Said> {
    let mut lines = Vec::new();
    if !effort.refused {
        let what = format!(
            "looks at its zones, down to {}",
            super::facts::mark(effort.fast)
        );
        lines.push(said(what, "P261"));
    }
    let mut plan = Plan::new(*effort);
    let mut event = Event::Enter;
    // A pass is told together with what it comes after.
    let mut open: Option<Said> = None;
    let mut reclaimed = false;
    for _ in 0..MAX_STEPS {
        let step = plan.next(event, Now::default());
        event = barren(&step, effort);
        if let Step::Pass { rights, reach } = step {
            let look = pass(rights, reach);
            lines.push(match open.take() {
                Some(Said { what, rule }) => said(format!("{what}, and looks {look}"), rule),
                None => said(format!("looks {look}"), pass_rule(rights, effort)),
            });
            continue;
        }
        lines.extend(open.take());
        let said = line(&step, effort, reclaimed);
        reclaimed |= matches!(step, Step::DirectReclaim { .. });
        match step {
            // The pass that may follow is not theirs.
            Step::Ask(_) | Step::AwaitReported | Step::UnreserveHighatomic => lines.extend(said),
            _ => open = said,
        }
        if matches!(step, Step::Backoff(_) | Step::Fail { .. }) {
            break;
        }
    }
    lines.extend(open);
    lines
}

/// What a machine answers on which nothing is gained.
fn barren(step: &Step, effort: &Effort) -> Event {
    match step {
        // Somebody else may kill (P431).
        Step::OomKill if effort.oom == OomRule::WaitForOthers => Event::Yes,
        Step::Pass { .. } => Event::Missed,
        Step::DirectReclaim { .. } => Event::Reclaimed(0),
        Step::Compact { .. } => Event::Compacted(CompactOutcome::Complete),
        Step::OomLock => Event::Yes,
        Step::Ask(_) | Step::UnreserveHighatomic | Step::AwaitReported | Step::OomKill => Event::No,
        _ => Event::Done,
    }
}

/// The rule of a pass that follows nothing else.
fn pass_rule(rights: AllocFlags, effort: &Effort) -> &'static str {
    if rights.level() == WatermarkLevel::High {
        "P128"
    } else if Some(rights) == effort.slow {
        "P113"
    } else if rights.contains(AllocFlags::NO_WATERMARKS) && effort.reserves.is_none() {
        "P130"
    } else if Some(rights) == effort.reserves {
        "P115"
    } else {
        "P132"
    }
}

fn line(step: &Step, effort: &Effort, reclaimed: bool) -> Option<Said> {
    Some(match step {
        Step::Begin | Step::CheckStall | Step::Pass { .. } => return None,
        Step::WakeBackground { order, .. } => said(
            format!("wakes background reclaim for order {order}"),
            "P112",
        ),
        Step::DirectReclaim { .. } => said("reclaims 32 pages by itself", "P118, P405"),
        Step::TakeBack if matches!(effort.rounds, Rounds::None(_)) => {
            said("takes what other CPUs have cached", "P821")
        }
        Step::TakeBack => said(
            "takes what other CPUs have cached and a HIGHATOMIC block",
            "P118, P335",
        ),
        Step::Compact { priority: p, .. } => {
            let rule = if reclaimed { "P119" } else { "P114" };
            said(format!("compacts ({})", priority(*p)), rule)
        }
        Step::Ask(Question::WouldReclaimSuffice) => again(effort),
        Step::Ask(Question::HaveZonesChanged) => said(
            "begins anew if zones or cpusets have changed meanwhile",
            "P111",
        ),
        Step::Ask(_) => return None,
        Step::UnreserveHighatomic => said(
            "gives back the next HIGHATOMIC block, if there is one, and begins again",
            "P123",
        ),
        Step::AwaitReported => said(
            "waits for free blocks that are on their way to the platform, and looks again",
            "gfp",
        ),
        Step::OomLock => said(
            "takes the OOM lock (or sleeps a tick, if another has it)",
            "P128",
        ),
        Step::OomKill if effort.oom == OomRule::WaitForOthers => said(
            "kills nobody: without __GFP_FS others have to; asks who can free memory",
            "P129, P430, P431",
        ),
        Step::OomKill if effort.may_fail => said(
            "has somebody killed; begins again if that helped",
            "P127, P129",
        ),
        Step::OomKill => said("has somebody killed", "P129, P130"),
        Step::OomUnlock => match effort.oom {
            OomRule::Kill | OomRule::WaitForOthers => return None,
            OomRule::Never(reason) => {
                said(format!("kills nobody: {}", why_no_kill(reason)), "P129")
            }
        },
        Step::Backoff(Backoff::Tick) => said("sleeps a tick, and begins again", "P124, P128"),
        Step::Backoff(Backoff::Reschedule) => {
            let rule = if effort.may_fail {
                "P124, P129"
            } else {
                "P132"
            };
            said("lets others run, and begins again", rule)
        }
        Step::Fail { report: true } => said("fails, with a report", "P132, P600"),
        Step::Fail { report: false } => said("fails silently", "P132, P14"),
    })
}

fn again(effort: &Effort) -> Said {
    match effort.compaction {
        Compaction::UpTo(top) => said(
            format!(
                "begins again if what is reclaimable would suffice, at most 16 times without \
                 progress; after progress also to compact harder, up to {}",
                priority(top)
            ),
            "P121, P122, P125",
        ),
        Compaction::None(_) => said(
            "begins again if what is reclaimable would suffice, at most 16 times without progress",
            "P121, P122",
        ),
    }
}
