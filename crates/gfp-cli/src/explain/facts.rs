//! What a request may do: one answer a question, with the rule that it follows from.

use gfp::flags::{Gfp, GfpError, MAX_PAGE_ORDER, MigrateType, ZoneKind};
use gfp::policy::effort::{
    CompactPriority, Compaction, Complaint, Effort, Level, Machine, NoCompaction, NoKill,
    NoReclaim, OomRule, Reach, Rounds, Warn,
};
use gfp::policy::watermark::{AllocFlags, FreeState, WatermarkLevel, zone_watermark_ok};
use serde::Serialize;

/// A sentence and the rules that say so.
#[derive(Debug, Serialize)]
pub(super) struct Said {
    /// The sentence, without a full stop.
    pub(super) what: String,
    /// `P113`, or `P121, P122`.
    pub(super) rule: &'static str,
}

pub(super) fn said(what: impl Into<String>, rule: &'static str) -> Said {
    let what = what.into();
    debug_assert!(!what.ends_with('.'));
    Said { what, rule }
}

/// The level's sentence (P100-P106).
pub(super) fn level(effort: &Effort) -> Said {
    if effort.caller.is_reclaiming() {
        return said(
            "the caller frees memory itself: takes from the reserves",
            "P116, P265",
        );
    }
    match effort.level {
        Level::NoReclaim => said("level 1: looks, wakes nobody", "P100"),
        Level::Background => said("level 2: wakes background reclaim, does not wait", "P101"),
        Level::Reserves => said(
            "level 3: does not wait, may use a part of the reserves",
            "P102",
        ),
        Level::Default => match (effort.rounds, effort.oom) {
            (Rounds::UntilNoProgress, OomRule::Never(_)) => said(
                "level 4: the default; tries hard, but kills nobody",
                "P103, P107",
            ),
            (Rounds::UntilNoProgress, _) => said(
                "level 4: the default; practically never fails, yet check",
                "P103",
            ),
            _ => said(
                "level 4: the default; a large order is tried for one round",
                "P103",
            ),
        },
        Level::Noretry => said("level 5: one round, nobody is killed", "P104"),
        Level::RetryMayfail => said("level 6: tries hard, fails rather than kill", "P105"),
        Level::Nofail => said("level 7: tries for ever", "P106"),
    }
}

/// What is wrong with the request, each with what Linux makes of it.
pub(super) fn wrong(effort: &Effort) -> Vec<Said> {
    effort
        .complaints()
        .map(|complaint| one_wrong(effort, complaint))
        .collect()
}

fn one_wrong(effort: &Effort, complaint: Complaint) -> Said {
    let error = match complaint {
        Complaint::MaySleep { context } => {
            let what = format!(
                "__GFP_DIRECT_RECLAIM lets it sleep, which this context ({}) forbids: use \
                 GFP_NOWAIT or GFP_ATOMIC. It is served without waiting",
                context.name()
            );
            return said(what, "P154");
        }
        Complaint::Flags(error) => error,
    };
    let rule = match error {
        GfpError::UndefinedBits { .. } => "P10",
        GfpError::IllegalZoneSelector { .. } => "P47",
        GfpError::MovableAndReclaimable => "P48",
        GfpError::NofailWithoutReclaim => "P49",
        GfpError::NofailHighOrder { .. } | GfpError::NofailInReclaim => "P50",
        GfpError::NofailContradiction => "P51",
        GfpError::OrderTooLarge { .. } => "P52",
        GfpError::ThisNodeOffline => "P54",
        GfpError::BitsNotAllowed { .. } => "P55-P58",
    };
    let what = match effort.asked.check() {
        Err(refused) if refused == error => {
            format!("{error}. gfp refuses it, Linux warns at most and goes on")
        }
        _ if error.linux_goes_on() => format!("{error}. It is served all the same"),
        _ => format!("{error}. It fails at once"),
    };
    said(what, rule)
}

/// The zones that may serve it, in the order in which they are looked at on one node.
pub(super) fn zones(effort: &Effort, machine: &Machine) -> Vec<&'static str> {
    let usable = |kind: &ZoneKind| *kind <= effort.highest && machine.zones.contains(*kind);
    let kinds = ZoneKind::ALL.into_iter().rev();
    kinds.filter(usable).map(ZoneKind::name).collect()
}

pub(super) fn mobility(effort: &Effort) -> &'static str {
    match effort.mobility {
        MigrateType::Movable => "movable",
        MigrateType::Reclaimable => "reclaimable",
        _ => "unmovable",
    }
}

pub(super) fn place(effort: &Effort, machine: &Machine) -> Vec<Said> {
    let zones = zones(effort, machine).join(", then ");
    let mut lines = vec![said(format!("from zone {zones}"), "P47, P201")];
    lines.push(match effort.mobility {
        MigrateType::Movable => said("movable: may lie in CMA areas", "P48, P262"),
        MigrateType::Reclaimable => said("reclaimable: given back on request", "P48"),
        _ => said("unmovable", "P48"),
    });
    let bits = [
        (Gfp::THISNODE, "from the node asked for, no other", "P22"),
        (
            Gfp::HARDWALL,
            "for user space: inside the task's cpuset",
            "P21, P36",
        ),
        (Gfp::ACCOUNT, "charged to the caller's group", "P23, P32"),
        (Gfp::ZERO, "reads as zero", "P9"),
        (
            Gfp::COMP,
            "one compound page, if it is more than a page",
            "P19",
        ),
        (
            Gfp::WRITE,
            "will be dirtied; there are no dirty limits that would choose a node",
            "P13",
        ),
    ];
    let set = bits
        .into_iter()
        .filter(|(bit, ..)| effort.gfp.contains(*bit));
    lines.extend(set.map(|(_, what, rule)| said(what, rule)));
    lines
}

/// The share of the min watermark that must stay free, in tenths of a percent; `None`: nothing.
pub(super) fn kept_permille(rights: AllocFlags) -> Option<usize> {
    const MARK: usize = 1000;
    if rights.contains(AllocFlags::NO_WATERMARKS) {
        return None;
    }
    let enough = |free: &usize| {
        let state = FreeState {
            free: *free + 1,
            ..FreeState::default()
        };
        zone_watermark_ok(0, MARK, 0, rights, &state, |_, _| true)
    };
    (0..=MARK).find(enough)
}

/// How far down a pass may look.
pub(super) fn mark(rights: AllocFlags) -> String {
    let level = match rights.level() {
        WatermarkLevel::Min => "min",
        WatermarkLevel::Low => "low",
        WatermarkLevel::High => "high",
        WatermarkLevel::Promo => "promo",
    };
    match kept_permille(rights) {
        None => "none".into(),
        Some(1000) => level.into(),
        Some(kept) if kept % 10 == 0 => format!("{} % of {level}", kept / 10),
        Some(kept) => format!("{}.{} % of {level}", kept / 10, kept % 10),
    }
}

/// The lowest mark that any of its passes may go down to.
pub(super) fn lowest(effort: &Effort) -> AllocFlags {
    effort.reserves.or(effort.slow).unwrap_or(effort.fast)
}

/// What it may take that is kept for others.
pub(super) fn reserves(effort: &Effort) -> Vec<Said> {
    let mut lines = Vec::new();
    let slow = effort.slow.unwrap_or(effort.fast);
    if let Some(rights) = effort.reserves {
        lines.push(match rights.contains(AllocFlags::NO_WATERMARKS) {
            true => said("everything: it frees more than it takes", "P115, P265"),
            false => said(
                format!(
                    "what is below min, down to {}: it is being killed",
                    mark(rights)
                ),
                "P115, P265",
            ),
        });
    }
    if slow.contains(AllocFlags::MIN_RESERVE) {
        let what = format!("what is below min, down to {}", mark(slow));
        lines.push(said(what, "P262, P270"));
    }
    if slow.contains(AllocFlags::HIGHATOMIC) {
        lines.push(said("blocks of the HIGHATOMIC reserve", "P262, P271"));
    } else if slow.may_drain_highatomic() && effort.order == 0 {
        lines.push(said(
            "pages of the HIGHATOMIC reserve, if nothing else is left",
            "P336",
        ));
    }
    lines
}

/// Whether the request itself may start I/O, and whether it may enter file systems: only reclaim
/// does either.
pub(super) fn io_fs(effort: &Effort) -> (bool, bool) {
    let reclaims = !matches!(effort.rounds, Rounds::None(_));
    let with = |bit| reclaims && effort.gfp.contains(bit);
    (with(Gfp::IO), with(Gfp::FS))
}

fn manners(effort: &Effort) -> Vec<Said> {
    let (io, fs) = io_fs(effort);
    vec![
        match io {
            true => said("may start I/O to get memory", "P7"),
            false => said("starts no I/O", "P7"),
        },
        match fs {
            true => said("may call into file systems to get memory", "P8"),
            false => said("does not call into file systems", "P8"),
        },
    ]
}

pub(super) fn direct_reclaim(effort: &Effort) -> &'static str {
    match effort.rounds {
        Rounds::None(_) => "none",
        _ if !effort.may_fail => "for ever",
        Rounds::One => "one round",
        Rounds::UntilNoProgress => "until no progress",
    }
}

pub(super) fn priority(priority: CompactPriority) -> &'static str {
    match priority {
        CompactPriority::Async => "async",
        CompactPriority::SyncLight => "sync-light",
        CompactPriority::SyncFull => "sync-full",
    }
}

pub(super) fn compaction(effort: &Effort) -> &'static str {
    match effort.compaction {
        Compaction::None(_) => "none",
        Compaction::UpTo(top) => priority(top),
    }
}

const fn why_no_reclaim(reason: NoReclaim) -> (&'static str, &'static str) {
    match reason {
        NoReclaim::TooLarge => ("the order is refused", "P52"),
        NoReclaim::NotAsked => ("__GFP_DIRECT_RECLAIM is not set", "P116"),
        NoReclaim::Context => ("the context may not sleep", "P154"),
        NoReclaim::Reclaiming => ("the caller is reclaiming itself", "P116"),
        NoReclaim::CostlyNoretry => ("a large order with __GFP_NORETRY, of one node", "P108"),
    }
}

/// Sleeping, waking, reclaiming, compacting, killing: what it may and why it may not.
pub(super) fn may(effort: &Effort) -> Vec<Said> {
    let mut lines = Vec::new();
    lines.push(match effort.may_sleep() {
        true => said("may sleep", "P11"),
        false => said("never sleeps", "P116"),
    });
    lines.push(match effort.wake_background {
        true => said("wakes background reclaim", "P12, P112"),
        false if effort.gfp.contains(Gfp::KSWAPD_RECLAIM) => {
            said("cannot wake background reclaim from here", "P170")
        }
        false => said("does not wake background reclaim", "P12"),
    });
    lines.push(reclaims(effort));
    lines.extend(manners(effort));
    lines.push(compacts(effort));
    lines.push(kills(effort));
    lines
}

fn reclaims(effort: &Effort) -> Said {
    match effort.rounds {
        Rounds::None(reason) => {
            let (why, rule) = why_no_reclaim(reason);
            said(format!("does not reclaim: {why}"), rule)
        }
        _ if !effort.may_fail => said("reclaims, for ever", "P106, P132"),
        Rounds::One => said("reclaims once", "P120"),
        Rounds::UntilNoProgress => said("reclaims until nothing is gained any more", "P121"),
    }
}

fn compacts(effort: &Effort) -> Said {
    match effort.compaction {
        Compaction::UpTo(CompactPriority::Async) => {
            said("compacts without waiting (async)", "P119")
        }
        Compaction::UpTo(top) => said(
            format!("compacts, from async up to {}", priority(top)),
            "P119, P125",
        ),
        Compaction::None(NoCompaction::NoReclaim(reason)) => {
            let (why, rule) = why_no_reclaim(reason);
            said(format!("does not compact: {why}"), rule)
        }
        Compaction::None(NoCompaction::SinglePage) => {
            said("does not compact: a single page needs none", "P125")
        }
        Compaction::None(NoCompaction::NotBuiltIn) => {
            said("does not compact: the machine cannot", "P110")
        }
        Compaction::None(NoCompaction::NoIo) => {
            said("does not compact: __GFP_IO is not set", "P7, P110")
        }
    }
}

pub(super) const fn why_no_kill(reason: NoKill) -> &'static str {
    match reason {
        NoKill::NoKiller => "the machine kills nobody",
        NoKill::NoReclaim(_) => "it does not reclaim",
        NoKill::Noretry => "__GFP_NORETRY gives up before",
        NoKill::DumpingCore => "the caller writes its core",
        NoKill::Costly => "a kill does not make large blocks",
        NoKill::RetryMayfail => "__GFP_RETRY_MAYFAIL would rather fail",
        NoKill::ThisNode => "a kill may free memory of other nodes only",
        NoKill::LowZone => "a kill may free memory of higher zones only",
        NoKill::StorageSuspended => "storage is suspended",
    }
}

fn kills(effort: &Effort) -> Said {
    match effort.oom {
        OomRule::Kill => said("has somebody killed when nothing else helps", "P127, P129"),
        OomRule::WaitForOthers => said(
            "kills nobody (__GFP_FS is not set), keeps trying instead",
            "P129",
        ),
        OomRule::Never(reason) => said(format!("kills nobody: {}", why_no_kill(reason)), "P129"),
    }
}

/// When it fails.
pub(super) fn fails(effort: &Effort) -> Said {
    if effort.order > MAX_PAGE_ORDER {
        return said(
            format!("always: order {MAX_PAGE_ORDER} is the largest"),
            "P52",
        );
    }
    if !effort.may_fail {
        return said("never; dangerous for large orders", "P16, P106");
    }
    match (effort.rounds, effort.oom) {
        (Rounds::None(NoReclaim::Reclaiming), _) => said("if not even the reserves help", "P116"),
        (Rounds::None(_), _) => said("likely under pressure: have a fallback", "P116, P132"),
        (Rounds::One, _) => said("if one round did not help", "P120"),
        (_, OomRule::Kill) => said(
            "practically never, yet check: an OOM victim may fail",
            "P103, P107",
        ),
        (_, OomRule::WaitForOthers) => said(
            "practically never, yet check: others are waited for",
            "P107, P129",
        ),
        (_, OomRule::Never(_)) => said("when nothing is gained any more", "P121, P129"),
    }
}

/// What is reported.
pub(super) fn warns(effort: &Effort) -> Vec<Said> {
    if !effort.may_fail {
        return match effort.reports_stall {
            true => vec![said("reports a stall of more than 10 s", "P117")],
            false => vec![said("never", "P14")],
        };
    }
    let mut lines = vec![match effort.warn {
        Warn::Report => said("a failure is reported, at most once in 10 s", "P600"),
        Warn::Nowarn => said("a failure is silent: __GFP_NOWARN", "P14"),
        Warn::NoDmaPages => said("a failure is silent: ZONE_DMA has no pages", "P600"),
        Warn::NoLock => said("a failure is silent: it is normal here", "P171"),
    }];
    if effort.reports_stall && effort.rounds == Rounds::UntilNoProgress {
        lines.push(said("a stall of more than 10 s is reported", "P117"));
    }
    lines
}

/// A pass in words: down to where, and where.
pub(super) fn pass(rights: AllocFlags, reach: Reach) -> String {
    let down = match kept_permille(rights) {
        None => "down to the last page".into(),
        Some(_) => format!("down to {}", mark(rights)),
    };
    match reach {
        Reach::Policy => down,
        Reach::Anywhere => format!("{down}, on every node"),
    }
}
