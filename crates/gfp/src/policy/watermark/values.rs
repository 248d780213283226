//! The levels themselves (P210-P216).

use super::rights::WatermarkLevel;
use crate::flags::ZoneKind;
use crate::policy::order::{PAGE_SHIFT, PAGEBLOCK_PAGES};

/// Default of the sysctl `watermark_scale_factor`, in 1/10000 of a zone.
pub const DEFAULT_SCALE_FACTOR: usize = 10;
/// Default of the sysctl `watermark_boost_factor`, in 1/10000 of the high watermark.
pub const DEFAULT_BOOST_FACTOR: usize = 15_000;

/// The integer square root: the largest `r` with `r * r <= n`.
pub const fn isqrt(n: u64) -> u64 {
    n.isqrt()
}

/// P210: the default of the sysctl `min_free_kbytes`, in kB, for this much low memory in kB: 128 to
/// 262144.
pub const fn min_free_kbytes(lowmem_kb: u64) -> u64 {
    let root = isqrt(lowmem_kb.saturating_mul(16));
    if root < 128 {
        128
    } else if root > 262_144 {
        262_144
    } else {
        root
    }
}

/// P211: the outcome of a recomputation of `min_free_kbytes`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MinFree {
    /// The computed value is installed.
    Computed(u64),
    /// The user's larger value stays; to be told in a warning.
    UserStays(u64),
}

/// P211: what `min_free_kbytes` becomes when memory was added or removed: the computed value only
/// if it exceeds the user's. Both in kB.
pub const fn recomputed_min_free_kbytes(lowmem_kb: u64, user_kb: Option<u64>) -> MinFree {
    let computed = min_free_kbytes(lowmem_kb);
    match user_kb {
        Some(user) if user >= computed => MinFree::UserStays(user),
        _ => MinFree::Computed(computed),
    }
}

/// The free-page levels of one zone, in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Where the slow path stops.
    pub min: usize,
    /// Where background reclaim is woken.
    pub low: usize,
    /// Where background reclaim is done.
    pub high: usize,
    /// Where promotion between memory tiers stops.
    pub promo: usize,
}

impl Watermarks {
    /// P215: the level as readers see it: with the zone's boost.
    #[inline]
    pub const fn level(&self, level: WatermarkLevel, boost: usize) -> usize {
        let stored = match level {
            WatermarkLevel::Min => self.min,
            WatermarkLevel::Low => self.low,
            WatermarkLevel::High => self.high,
            WatermarkLevel::Promo => self.promo,
        };
        stored + boost
    }
}

/// What the share of one zone depends on (P212).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LowMemory {
    /// The sysctl, in kB.
    pub min_free_kbytes: u64,
    /// Managed pages of all zones up to `Normal`, in pages.
    pub pages: usize,
    /// The sysctl `watermark_scale_factor`, in 1/10000.
    pub scale_factor: usize,
}

/// `a * b / c` without overflow in between, saturated; 0 if `c` is 0.
const fn mul_div(a: usize, b: usize, c: usize) -> usize {
    if c == 0 {
        return 0;
    }
    let quotient = a as u128 * b as u128 / c as u128;
    if quotient > usize::MAX as u128 {
        usize::MAX
    } else {
        quotient as usize
    }
}

/// P212, P213: the levels of a zone with `managed` pages.
///
/// The zone's share of `min_free_kbytes` is its share of low memory. `HighMem` and `Movable` need
/// hardly any reserve, since no emergency allocation is served from them.
pub const fn zone_watermarks(kind: ZoneKind, managed: usize, lowmem: &LowMemory) -> Watermarks {
    let pages_min = (lowmem.min_free_kbytes >> (PAGE_SHIFT - 10)) as usize;
    let share = mul_div(pages_min, managed, lowmem.pages);
    let min = match kind {
        ZoneKind::HighMem | ZoneKind::Movable => match managed / 1024 {
            0..=31 => 32,
            few @ 32..=128 => few,
            _ => 128,
        },
        ZoneKind::Dma | ZoneKind::Dma32 | ZoneKind::Normal => share,
    };
    let scaled = mul_div(managed, lowmem.scale_factor, 10_000);
    let delta = if share / 4 > scaled {
        share / 4
    } else {
        scaled
    };
    let low = min.saturating_add(delta);
    let high = low.saturating_add(delta);
    Watermarks {
        min,
        low,
        high,
        promo: high.saturating_add(delta),
    }
}

/// P216: the zone's boost after pages were taken for another mobility type, in pages; `None` if the
/// zone is not boosted at all: smaller than four pageblocks, high watermark 0 (early boot), or
/// `factor` 0.
///
/// `high`: the unboosted high watermark; `factor`: the sysctl `watermark_boost_factor`.
pub const fn boosted(boost: usize, managed: usize, high: usize, factor: usize) -> Option<usize> {
    if factor == 0 || high == 0 || managed < 4 * PAGEBLOCK_PAGES {
        return None;
    }
    let part = mul_div(high, factor, 10_000);
    let cap = if part > PAGEBLOCK_PAGES {
        part
    } else {
        PAGEBLOCK_PAGES
    };
    let raised = boost.saturating_add(PAGEBLOCK_PAGES);
    Some(if raised < cap { raised } else { cap })
}
