//! The table: (flags, order, caller, machine) to [`Effort`].

use super::facts::{Caller, CostlyNoretry, Machine};
use super::retry::CompactPriority;
use super::terms::{
    Backoff, CompactFirst, Compaction, Complaint, Level, NoCompaction, NoKill, NoReclaim, OomRule,
    OrderClass, Rounds, TakeBack, Warn,
};
use crate::flags::{Gfp, GfpError, MigrateType, ZoneKind};
use crate::policy::context::Context;
use crate::policy::order::{COSTLY_ORDER, PAGEBLOCK_ORDER};
use crate::policy::watermark::AllocFlags;

/// Everything that one request may do, as plain data. [`super::Plan`] executes it; nobody else
/// looks at reclaim bits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Effort {
    /// The word as the caller wrote it.
    pub asked: Gfp,
    /// The word that counts: after the machine's mask (P29), scopes (P150), cpusets (P57), and
    /// without `DIRECT_RECLAIM` where the context may not sleep.
    pub gfp: Gfp,
    /// The order asked for.
    pub order: u32,
    /// What the order means.
    pub class: OrderClass,
    /// Which of the seven levels this is.
    pub level: Level,
    /// Who asks.
    pub caller: Caller,
    /// The highest zone that may serve it (P47).
    pub highest: ZoneKind,
    /// Its mobility type (P48).
    pub mobility: MigrateType,
    /// It is refused without a look at memory (P52, P172).
    pub refused: bool,
    /// Rights of the fast pass (P261). The caller adds `NOFRAGMENT` by P312.
    pub fast: AllocFlags,
    /// Rights of the slow path (P262); `None`: there is no slow path (P171).
    pub slow: Option<AllocFlags>,
    /// Rights to reserves (P265), for passes without node mask and policy limits (P115).
    pub reserves: Option<AllocFlags>,
    /// Background reclaim of every node with an eligible zone is woken, at each turn (P112).
    pub wake_background: bool,
    /// The order that background reclaim, reclaim and compaction work for (P136).
    pub goal_order: u32,
    /// P114.
    pub compact_first: CompactFirst,
    /// P110, P119, P125.
    pub compaction: Compaction,
    /// P116-P122.
    pub rounds: Rounds,
    /// P128-P129.
    pub oom: OomRule,
    /// The request can end without memory.
    pub may_fail: bool,
    /// P600.
    pub warn: Warn,
    /// P117: reported if it has looped for 10 s.
    pub reports_stall: bool,
    /// P118, P821.
    pub take_back: TakeBack,
    /// It may wait until free blocks that are on their way to the platform come back.
    pub awaits_reported: bool,
    /// P124.
    pub backoff: Backoff,
    /// P57: passes with and without the cpuset differ.
    pub cpusets: bool,
    /// P136: fragmentation is avoided until all else has failed.
    pub keeps_blocks_whole: bool,
}

impl Effort {
    /// The effort of an ordinary request for `2^order` pages.
    ///
    /// Total: contradictory zone or mobility bits count as Normal and unmovable, as
    /// [`Gfp::sanitize_for`] has them; [`Effort::complaints`] names what is wrong.
    pub const fn of(asked: Gfp, order: u32, caller: &Caller, machine: &Machine) -> Effort {
        let gfp = effective(asked, caller, machine);
        let class = OrderClass::of(order);
        let why_not = no_reclaim(asked, gfp, class, caller, machine);
        let highest = match gfp.highest_zone() {
            Ok(kind) => machine.zones.degraded(kind),
            Err(_) => ZoneKind::Normal,
        };
        let mobility = match gfp.migratetype() {
            Ok(kind) => kind,
            Err(_) => MigrateType::Unmovable,
        };
        let goal_order = goal_order(order, mobility, machine);
        let compaction = compaction(gfp, class, goal_order, why_not, machine);
        let rounds = rounds(gfp, class, compaction, why_not, machine);
        let reserves = AllocFlags::reserves(gfp, &caller.rights());
        let mut fast = AllocFlags::fast(gfp);
        let mut slow = AllocFlags::slow(gfp, order, &caller.rights());
        if machine.cpusets {
            fast = fast.with(AllocFlags::CPUSET);
        }
        if machine.defrag_mode {
            fast = fast.with(AllocFlags::NOFRAGMENT);
            slow = slow.with(AllocFlags::NOFRAGMENT);
        }
        Effort {
            asked,
            gfp,
            order,
            class,
            level: Level::of(gfp),
            caller: *caller,
            highest,
            mobility,
            refused: matches!(class, OrderClass::TooLarge),
            fast,
            slow: Some(slow),
            reserves,
            wake_background: gfp.wakes_kswapd()
                && !matches!(caller.context, Context::Nmi)
                && !matches!(class, OrderClass::TooLarge),
            goal_order,
            compact_first: compact_first(gfp, class, mobility, compaction, reserves, machine),
            compaction,
            rounds,
            oom: oom(gfp, class, highest, rounds, caller, machine),
            may_fail: !gfp.never_fails() || matches!(class, OrderClass::TooLarge),
            warn: warn(gfp, machine),
            reports_stall: gfp.may_warn() && !matches!(rounds, Rounds::None(_)),
            take_back: take_back(asked, gfp, class, rounds, caller),
            awaits_reported: asked.allows_spinning(),
            backoff: if caller.pool_worker {
                Backoff::Tick
            } else {
                Backoff::Reschedule
            },
            cpusets: machine.cpusets,
            keeps_blocks_whole: machine.defrag_mode,
        }
    }

    /// P170-P172: the effort of the no-lock entry: one look, which waits for nothing. `gfp` is what
    /// the entry goes on with ([`crate::flags::Entry::NoLock`]).
    pub const fn nolock(gfp: Gfp, order: u32, caller: &Caller, machine: &Machine) -> Effort {
        let without = gfp.without(Gfp::RECLAIM).without(Gfp::HIGH);
        let mut effort = Self::of(without, order, caller, machine);
        effort.asked = gfp;
        effort.fast = AllocFlags::nolock();
        effort.slow = None;
        effort.reserves = None;
        effort.warn = Warn::NoLock;
        effort.take_back = TakeBack::Never;
        effort.awaits_reported = false;
        effort.refused = !(order <= COSTLY_ORDER || order == PAGEBLOCK_ORDER);
        effort
    }

    /// Whether its plan, if nothing is found, is to wake the background, one pass, and the end: it
    /// neither waits nor takes anything back, has no reserves, and no second look.
    pub const fn is_one_look(&self) -> bool {
        matches!(self.rounds, Rounds::None(_))
            && !matches!(self.take_back, TakeBack::BeforeFailing)
            && matches!(self.compact_first, CompactFirst::No)
            && self.reserves.is_none()
            && self.slow.is_some()
            && !self.refused
            && self.may_fail
            && !self.keeps_blocks_whole
    }

    /// Whether the caller may be put to sleep.
    pub const fn may_sleep(&self) -> bool {
        self.gfp.allows_blocking()
    }

    /// What the caller did wrong, at most three things.
    pub fn complaints(&self) -> impl Iterator<Item = Complaint> + use<> {
        let flags = |result: Result<(), GfpError>| result.err().map(Complaint::Flags);
        let context = self.caller.context;
        let sleeps =
            self.asked.allows_blocking() && !context.may_sleep() && !self.caller.is_reclaiming();
        let reclaiming = if self.caller.is_reclaiming() {
            flags(self.asked.check_while_reclaiming())
        } else {
            None
        };
        [
            flags(self.asked.check()),
            flags(self.asked.check_order(self.order)),
            reclaiming,
            sleeps.then_some(Complaint::MaySleep { context }),
        ]
        .into_iter()
        .flatten()
    }
}

/// P29, P57, P150; and a caller that may not sleep does not, whatever its flags say (P154).
const fn effective(asked: Gfp, caller: &Caller, machine: &Machine) -> Gfp {
    let mut gfp = caller.scopes.apply(asked.intersection(machine.allowed));
    if machine.cpusets && caller.context.is_task() {
        gfp = gfp.with(Gfp::HARDWALL);
    }
    if !caller.context.may_sleep() {
        gfp = gfp.without(Gfp::DIRECT_RECLAIM);
    }
    gfp
}

/// P52, P116, P108: the reason not to reclaim, if there is one.
const fn no_reclaim(
    asked: Gfp,
    gfp: Gfp,
    class: OrderClass,
    caller: &Caller,
    machine: &Machine,
) -> Option<NoReclaim> {
    if matches!(class, OrderClass::TooLarge) {
        return Some(NoReclaim::TooLarge);
    }
    if !gfp.allows_blocking() {
        return Some(if asked.allows_blocking() && !caller.context.may_sleep() {
            NoReclaim::Context
        } else {
            NoReclaim::NotAsked
        });
    }
    if caller.is_reclaiming() {
        return Some(NoReclaim::Reclaiming);
    }
    let no_effort = matches!(machine.costly_noretry, CostlyNoretry::NoEffort)
        && !gfp.intersects(Gfp::THISNODE.with(Gfp::NOFAIL));
    if class.is_costly() && gfp.contains(Gfp::NORETRY) && no_effort {
        return Some(NoReclaim::CostlyNoretry);
    }
    None
}

/// P136: in defrag mode requests that cannot be moved later ask for whole pageblocks.
const fn goal_order(order: u32, mobility: MigrateType, machine: &Machine) -> u32 {
    let whole = machine.defrag_mode && !matches!(mobility, MigrateType::Movable);
    if whole && order < PAGEBLOCK_ORDER {
        PAGEBLOCK_ORDER
    } else {
        order
    }
}

/// P110, P119; the priorities of P125.
const fn compaction(
    gfp: Gfp,
    class: OrderClass,
    goal_order: u32,
    why_not: Option<NoReclaim>,
    machine: &Machine,
) -> Compaction {
    if let Some(reason) = why_not {
        Compaction::None(NoCompaction::NoReclaim(reason))
    } else if goal_order == 0 {
        Compaction::None(NoCompaction::SinglePage)
    } else if !machine.can_compact {
        Compaction::None(NoCompaction::NotBuiltIn)
    } else if !gfp.intersects(Gfp::IO) {
        Compaction::None(NoCompaction::NoIo)
    } else if gfp.contains(Gfp::NORETRY) || class.is_costly() && !gfp.contains(Gfp::RETRY_MAYFAIL) {
        // One round (P120): there is no retry that would raise the priority.
        Compaction::UpTo(CompactPriority::Async)
    } else if class.is_costly() {
        Compaction::UpTo(CompactPriority::SyncLight)
    } else {
        Compaction::UpTo(CompactPriority::SyncFull)
    }
}

/// P114; P108 says what its outcome decides.
const fn compact_first(
    gfp: Gfp,
    class: OrderClass,
    mobility: MigrateType,
    compaction: Compaction,
    reserves: Option<AllocFlags>,
    machine: &Machine,
) -> CompactFirst {
    let worth_it = match class {
        OrderClass::Single => false,
        OrderClass::Small => !matches!(mobility, MigrateType::Movable),
        OrderClass::Costly | OrderClass::TooLarge => true,
    };
    let unlimited = match reserves {
        Some(rights) => rights.contains(AllocFlags::NO_WATERMARKS),
        None => false,
    };
    if !worth_it || unlimited || matches!(compaction, Compaction::None(_)) {
        return CompactFirst::No;
    }
    let give_up = matches!(machine.costly_noretry, CostlyNoretry::GiveUpEarly);
    if give_up && class.is_costly() && gfp.contains(Gfp::NORETRY) {
        CompactFirst::OrGiveUp
    } else {
        CompactFirst::ThenReclaim
    }
}

/// P116, P120, P108.
const fn rounds(
    gfp: Gfp,
    class: OrderClass,
    compaction: Compaction,
    why_not: Option<NoReclaim>,
    machine: &Machine,
) -> Rounds {
    if let Some(reason) = why_not {
        return Rounds::None(reason);
    }
    let costly = class.is_costly();
    let noretry = gfp.contains(Gfp::NORETRY);
    let local_only = gfp.contains(Gfp::THISNODE) && !gfp.contains(Gfp::NOFAIL);
    let one_round = matches!(machine.costly_noretry, CostlyNoretry::OneRound);
    if costly && noretry && local_only && one_round {
        return Rounds::None(NoReclaim::CostlyNoretry);
    }
    let can_compact = matches!(compaction, Compaction::UpTo(_));
    if noretry || costly && !(can_compact && gfp.contains(Gfp::RETRY_MAYFAIL)) {
        Rounds::One
    } else {
        Rounds::UntilNoProgress
    }
}

/// P129, in its order. Who waits for a kill of others (no `FS`) needs somebody who kills.
const fn oom(
    gfp: Gfp,
    class: OrderClass,
    highest: ZoneKind,
    rounds: Rounds,
    caller: &Caller,
    machine: &Machine,
) -> OomRule {
    let reason = if let Rounds::None(reason) = rounds {
        NoKill::NoReclaim(reason)
    } else if !machine.can_kill {
        NoKill::NoKiller
    } else if gfp.contains(Gfp::NORETRY) {
        NoKill::Noretry
    } else if caller.dumping_core {
        NoKill::DumpingCore
    } else if class.is_costly() {
        NoKill::Costly
    } else if gfp.contains(Gfp::RETRY_MAYFAIL) {
        NoKill::RetryMayfail
    } else if gfp.contains(Gfp::THISNODE) {
        NoKill::ThisNode
    } else if highest.index() < ZoneKind::Normal.index() {
        NoKill::LowZone
    } else if machine.storage_suspended {
        NoKill::StorageSuspended
    } else if !gfp.contains(Gfp::FS) {
        return OomRule::WaitForOthers;
    } else {
        return OomRule::Kill;
    };
    OomRule::Never(reason)
}

/// P14, P600.
const fn warn(gfp: Gfp, machine: &Machine) -> Warn {
    if !gfp.may_warn() {
        Warn::Nowarn
    } else if gfp.contains(Gfp::DMA) && !machine.dma_has_pages {
        Warn::NoDmaPages
    } else {
        Warn::Report
    }
}

/// P118, P821: draining costs the others their caches, so a large request that is only a first
/// try does without unless reclaim found something; and it is waited for other CPUs, so only tasks
/// that may spin do it.
const fn take_back(
    asked: Gfp,
    gfp: Gfp,
    class: OrderClass,
    rounds: Rounds,
    caller: &Caller,
) -> TakeBack {
    let in_earnest = asked.allows_blocking() && !asked.contains(Gfp::NORETRY);
    let worth_it = in_earnest || matches!(class, OrderClass::Single);
    match rounds {
        Rounds::None(_) if caller.context.is_task() && asked.allows_spinning() && worth_it => {
            TakeBack::BeforeFailing
        }
        Rounds::None(_) => TakeBack::Never,
        Rounds::One | Rounds::UntilNoProgress if worth_it || gfp.never_fails() => {
            TakeBack::EachRound
        }
        Rounds::One | Rounds::UntilNoProgress => TakeBack::AfterProgress,
    }
}
