//! What the table is asked with: who asks, and on what machine.

use super::Scopes;
use crate::flags::{Gfp, ZoneKind};
use crate::policy::context::Context;
use crate::policy::watermark::TaskRights;

/// Who asks, as far as effort depends on it. The default is an ordinary task that may sleep.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// In which context it runs.
    pub context: Context,
    /// The scopes in force; in a softirq those that the softirq itself opened (P152).
    pub scopes: Scopes,
    /// The OOM killer has chosen the task (P265).
    pub oom_victim: bool,
    /// The task has a real-time or deadline policy (P262).
    pub realtime: bool,
    /// The task is writing its core (P129).
    pub dumping_core: bool,
    /// The task is a worker of the deferred-work pool: what others wait for runs behind it (P124).
    pub pool_worker: bool,
}

impl Caller {
    /// An ordinary caller in this context.
    pub const fn in_context(context: Context) -> Caller {
        Caller {
            context,
            scopes: Scopes::NONE,
            oom_victim: false,
            realtime: false,
            dumping_core: false,
            pool_worker: false,
        }
    }

    /// `PF_MEMALLOC` counts: the caller is itself freeing memory. A hard interrupt and an NMI do
    /// not inherit it from the task below (P152).
    pub const fn is_reclaiming(&self) -> bool {
        self.scopes.contains(Scopes::NORECLAIM)
            && !matches!(self.context, Context::HardIrq | Context::Nmi)
    }

    /// What the watermark rights depend on.
    pub const fn rights(&self) -> TaskRights {
        TaskRights {
            context: self.context,
            memalloc: self.is_reclaiming(),
            oom_victim: self.oom_victim,
            realtime: self.realtime,
        }
    }
}

/// P108: what a costly `NORETRY` request does; it changed three times.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum CostlyNoretry {
    /// Up to Linux 6.19: gives up if the first compaction was skipped or deferred.
    GiveUpEarly,
    /// Linux 7.0: always one round of reclaim, but none with `THISNODE`.
    #[default]
    OneRound,
    /// Development of 2026: neither reclaim nor compaction, except with `THISNODE` or `NOFAIL`.
    NoEffort,
}

/// The kinds of zone that a machine has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Zones(u8);

impl Zones {
    /// A 64-bit machine with all its zones: DMA, DMA32, Normal, Movable.
    pub const ALL_64_BIT: Zones = Zones(0b10111);

    /// No zone.
    pub const NONE: Zones = Zones(0);

    /// And this one.
    pub const fn with(self, kind: ZoneKind) -> Zones {
        Zones(self.0 | 1 << kind.index())
    }

    /// The machine has it.
    pub const fn contains(self, kind: ZoneKind) -> bool {
        self.0 & 1 << kind.index() != 0
    }

    /// P47, P2: a zone that the machine does not have degrades to Normal; Movable to HighMem where
    /// there is one.
    pub const fn degraded(self, kind: ZoneKind) -> ZoneKind {
        if self.contains(kind) {
            kind
        } else if matches!(kind, ZoneKind::Movable) && self.contains(ZoneKind::HighMem) {
            ZoneKind::HighMem
        } else {
            ZoneKind::Normal
        }
    }
}

/// The machine, as far as effort depends on it.
///
/// The default has every mechanism, as an ordinary Linux does; a machine that cannot compact or
/// kill says so, and the plan leaves out what would be asked of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// P29: what requests may carry now: all, or less during boot and suspend.
    pub allowed: Gfp,
    /// The kinds of zone that are configured.
    pub zones: Zones,
    /// ZONE_DMA has pages (P600).
    pub dma_has_pages: bool,
    /// Compaction is built in (P110, P126).
    pub can_compact: bool,
    /// Somebody can be killed. Without, the request that would kill fails.
    pub can_kill: bool,
    /// Storage is suspended: what a victim would have written cannot be written (P129).
    pub storage_suspended: bool,
    /// Cpusets are in use (P57).
    pub cpusets: bool,
    /// P313: pageblocks are kept whole, at the price of reclaim.
    pub defrag_mode: bool,
    /// P108.
    pub costly_noretry: CostlyNoretry,
}

impl Machine {
    /// A machine with every mechanism and the defaults of Linux 7.0.
    pub const LINUX: Machine = Machine {
        allowed: Gfp::ALL,
        zones: Zones::ALL_64_BIT,
        dma_has_pages: true,
        can_compact: true,
        can_kill: true,
        storage_suspended: false,
        cpusets: false,
        defrag_mode: false,
        costly_noretry: CostlyNoretry::OneRound,
    };
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::LINUX
    }
}
