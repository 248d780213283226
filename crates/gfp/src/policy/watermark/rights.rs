//! One request's rights (P260-P265).

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use crate::flags::{Gfp, MigrateType};
use crate::policy::context::Context;
use crate::policy::fallback::Fragmenting;

/// Which level a pass over the free lists respects.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WatermarkLevel {
    /// The slow path.
    Min = 0,
    /// The fast path.
    Low = 1,
    /// Background reclaim's goal.
    High = 2,
    /// The goal with memory tiers.
    Promo = 3,
}

/// P260: the rights of one pass over the free lists: a watermark level and flags.
///
/// Separate from [`Gfp`]: the flags say what the caller asked for, this says what the allocator
/// grants.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct AllocFlags(u16);

impl AllocFlags {
    /// The two bits of [`WatermarkLevel`].
    const LEVEL: u16 = 3;

    /// No rights beyond the min watermark.
    pub const MIN: AllocFlags = AllocFlags(WatermarkLevel::Min as u16);
    /// No watermark is looked at.
    pub const NO_WATERMARKS: AllocFlags = AllocFlags(1 << 2);
    /// The caller is an OOM victim: half of what is left to all others.
    pub const OOM: AllocFlags = AllocFlags(1 << 3);
    /// The caller cannot wait: with [`AllocFlags::MIN_RESERVE`] another quarter of min.
    pub const NON_BLOCK: AllocFlags = AllocFlags(1 << 4);
    /// Half of min.
    pub const MIN_RESERVE: AllocFlags = AllocFlags(1 << 5);
    /// The task's cpuset counts.
    pub const CPUSET: AllocFlags = AllocFlags(1 << 6);
    /// Free CMA pages may be borrowed.
    pub const CMA: AllocFlags = AllocFlags(1 << 7);
    /// Do not mix mobility types in a pageblock (P312).
    pub const NOFRAGMENT: AllocFlags = AllocFlags(1 << 8);
    /// The reserve for urgent requests of order > 0 may be used.
    pub const HIGHATOMIC: AllocFlags = AllocFlags(1 << 9);
    /// No lock may be waited for (P170).
    pub const NOLOCK: AllocFlags = AllocFlags(1 << 10);
    /// Background reclaim may be woken.
    pub const KSWAPD: AllocFlags = AllocFlags(1 << 11);
    /// The allocation is not attributed to a code location.
    pub const NO_CODETAG: AllocFlags = AllocFlags(1 << 12);

    /// P267: whoever has one of these may use pages of the HIGHATOMIC reserve.
    const RESERVES: AllocFlags = Self::NON_BLOCK
        .with(Self::MIN_RESERVE)
        .with(Self::HIGHATOMIC)
        .with(Self::OOM);

    /// What a victim gets beyond P265, so that others cannot use up what it needs to die: all that
    /// the most urgent have, and half of the rest. See [`AllocFlags::reserves`].
    const VICTIM: AllocFlags = Self::OOM.with(Self::MIN_RESERVE).with(Self::NON_BLOCK);

    /// P261: the first pass: low watermark. The caller adds [`AllocFlags::CPUSET`] if cpusets are
    /// in use, and [`AllocFlags::NOFRAGMENT`] by [`crate::policy::fallback::fragmenting`].
    #[inline]
    pub const fn fast(gfp: Gfp) -> AllocFlags {
        AllocFlags(WatermarkLevel::Low as u16).with(Self::common(gfp))
    }

    /// P171, P261: the only pass of a request that may come from an NMI.
    pub const fn nolock() -> AllocFlags {
        Self::MIN.with(Self::NOLOCK)
    }

    /// P262-P264: the passes of the slow path for `2^order` pages.
    pub const fn slow(gfp: Gfp, order: u32, task: &TaskRights) -> AllocFlags {
        let mut flags = Self::MIN.with(Self::CPUSET).with(Self::common(gfp));
        let urgent = gfp.intersects(Gfp::HIGH);
        if urgent {
            flags = flags.with(Self::MIN_RESERVE);
        }
        if gfp.allows_blocking() {
            if task.realtime && task.context.is_task() {
                flags = flags.with(Self::MIN_RESERVE);
            }
            return flags;
        }
        if !gfp.intersects(Gfp::NOMEMALLOC) {
            flags = flags.with(Self::NON_BLOCK);
            if order > 0 && urgent {
                flags = flags.with(Self::HIGHATOMIC);
            }
        }
        // It cannot wait for its own nodes to be reclaimed.
        if urgent {
            flags.without(Self::CPUSET)
        } else {
            flags
        }
    }

    /// P265, P115: the rights that replace those of [`AllocFlags::slow`] if the caller is entitled
    /// to reserves, for a pass without node mask and policy limits; `None` if it is not.
    ///
    /// A victim goes further down than in Linux, where it stops at half of min and `GFP_ATOMIC` at
    /// 3/8: here it goes to 3/16, so that at least 3/16 of min are there for nobody else but it and
    /// those who free memory (ADR 0012).
    pub const fn reserves(gfp: Gfp, task: &TaskRights) -> Option<AllocFlags> {
        let right = if gfp.intersects(Gfp::NOMEMALLOC) {
            return None; // P53
        } else if gfp.intersects(Gfp::MEMALLOC) {
            Self::NO_WATERMARKS
        } else {
            match task.context {
                Context::Task | Context::Atomic if task.memalloc => Self::NO_WATERMARKS,
                Context::Task | Context::Atomic if task.oom_victim => Self::VICTIM,
                Context::SoftIrq if task.memalloc => Self::NO_WATERMARKS,
                _ => return None,
            }
        };
        Some(Self::MIN.with(right).with(Self::common(gfp)))
    }

    /// What both paths derive from the flags alone (P261, P262).
    const fn common(gfp: Gfp) -> AllocFlags {
        let mut flags = AllocFlags(0);
        if gfp.wakes_kswapd() {
            flags = flags.with(Self::KSWAPD);
        }
        if matches!(gfp.migratetype(), Ok(MigrateType::Movable)) {
            flags = flags.with(Self::CMA);
        }
        flags
    }

    /// The watermark level that this pass respects.
    #[inline]
    pub const fn level(self) -> WatermarkLevel {
        match self.0 & Self::LEVEL {
            0 => WatermarkLevel::Min,
            1 => WatermarkLevel::Low,
            2 => WatermarkLevel::High,
            _ => WatermarkLevel::Promo,
        }
    }

    /// What a pass with these rights may do to blocks of other types (P312).
    #[inline]
    pub const fn fragmenting(self) -> Fragmenting {
        match self.contains(AllocFlags::NOFRAGMENT) {
            true => Fragmenting::Avoided,
            false => Fragmenting::Allowed,
        }
    }

    /// The same rights at another level.
    #[inline]
    pub const fn at(self, level: WatermarkLevel) -> AllocFlags {
        AllocFlags(self.0 & !Self::LEVEL | level as u16)
    }

    /// These rights and those; the level of `other` must be `Min`, that is absent.
    #[inline]
    pub const fn with(self, other: AllocFlags) -> AllocFlags {
        debug_assert!(other.0 & Self::LEVEL == 0 || self.0 & Self::LEVEL == 0);
        AllocFlags(self.0 | other.0)
    }

    /// These rights without those of `other`; the level stays.
    #[inline]
    pub const fn without(self, other: AllocFlags) -> AllocFlags {
        AllocFlags(self.0 & (!other.0 | Self::LEVEL))
    }

    /// All rights of `other` are there; levels do not count.
    #[inline]
    pub const fn contains(self, other: AllocFlags) -> bool {
        other.0 & !Self::LEVEL & !self.0 == 0
    }

    /// At least one right of `other` is there; levels do not count.
    #[inline]
    pub const fn intersects(self, other: AllocFlags) -> bool {
        self.0 & other.0 & !Self::LEVEL != 0
    }

    /// The same without the rights that go below a mark or into a reserve: what somebody takes for
    /// others beside his own.
    #[inline]
    pub const fn ordinary(self) -> AllocFlags {
        self.without(Self::RESERVES)
    }

    /// P267: free pages of the HIGHATOMIC reserve count for this request.
    #[inline]
    pub const fn counts_highatomic(self) -> bool {
        self.intersects(Self::RESERVES)
    }

    /// P336: an order-0 request with these rights may take from the HIGHATOMIC lists when nothing
    /// else is left.
    #[inline]
    pub const fn may_drain_highatomic(self) -> bool {
        self.intersects(Self::OOM.with(Self::NON_BLOCK))
    }
}

impl BitOr for AllocFlags {
    type Output = AllocFlags;
    fn bitor(self, other: AllocFlags) -> AllocFlags {
        self.with(other)
    }
}

impl BitOrAssign for AllocFlags {
    fn bitor_assign(&mut self, other: AllocFlags) {
        *self = self.with(other);
    }
}

/// `MIN|NON_BLOCK|KSWAPD`.
impl fmt::Debug for AllocFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 11] = [
            "NO_WATERMARKS",
            "OOM",
            "NON_BLOCK",
            "MIN_RESERVE",
            "CPUSET",
            "CMA",
            "NOFRAGMENT",
            "HIGHATOMIC",
            "NOLOCK",
            "KSWAPD",
            "NO_CODETAG",
        ];
        f.write_str(match self.level() {
            WatermarkLevel::Min => "MIN",
            WatermarkLevel::Low => "LOW",
            WatermarkLevel::High => "HIGH",
            WatermarkLevel::Promo => "PROMO",
        })?;
        for (bit, name) in NAMES.into_iter().enumerate() {
            if self.0 & (4 << bit) != 0 {
                write!(f, "|{name}")?;
            }
        }
        Ok(())
    }
}

/// What the current task is, as far as reserves depend on it (P262, P265). The default is an
/// ordinary task.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRights {
    /// Where the request comes from.
    pub context: Context,
    /// The task is freeing memory (`PF_MEMALLOC`); in a softirq: the softirq runs with that right.
    pub memalloc: bool,
    /// The OOM killer has chosen the task.
    pub oom_victim: bool,
    /// The task has a real-time or deadline policy.
    pub realtime: bool,
}
