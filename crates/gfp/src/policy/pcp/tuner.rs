//! How one CPU's cache of a zone adapts to what its CPU does (P326-P330).
//!
//! A cache is looked at when a list is empty or may hold no more, not at each page. So what the
//! rules say of each free and each allocation is done here for all of them since the last look.

use super::{PcpLimits, high_under_reclaim, max, min, refill};

/// What passed a cache since it was last looked at.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Pages allocated.
    pub allocated: u64,
    /// Pages freed.
    pub freed: u64,
}

/// How a zone is off when one of its caches is looked at (P277, P329).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// More is free than its watermark *high*.
    #[default]
    None,
    /// Not more is free than its watermark *high*.
    BelowHigh,
    /// Its node is being reclaimed in the background.
    Reclaimed,
}

/// What a CPU's cache of one zone has learned.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuner {
    /// P326: doublings of the refill so far.
    pub scale: u32,
    /// P327: grows with pages freed, halves with each page allocated.
    pub free_count: usize,
    /// P328: pages it may keep; what is outside of the zone's limits counts as the nearer one.
    pub high: usize,
    /// P330: when a free was last looked at, it was one of order 1 to 3.
    pub freed_large: bool,
}

/// P330: orders whose frees in a row are meant for another CPU.
pub const fn is_large(order: u32) -> bool {
    1 <= order && order <= 3
}

impl Tuner {
    /// Learns what has happened. Of allocations and frees in one stretch the frees count as the
    /// later ones, as far as they are more.
    #[must_use]
    pub const fn learn(mut self, traffic: Traffic) -> Tuner {
        if traffic.allocated >= usize::BITS as u64 {
            self.free_count = 0;
        } else {
            self.free_count >>= traffic.allocated;
        }
        let more = traffic.freed.saturating_sub(traffic.allocated);
        self.free_count = self.free_count.saturating_add(more as usize);
        // P326: each free halves the scale.
        if traffic.freed > super::BATCH_SCALE_MAX as u64 {
            self.scale = 0;
        } else {
            self.scale >>= traffic.freed;
        }
        self
    }

    /// P328, P329: how many pages the cache may keep now.
    pub const fn high(&self, limits: &PcpLimits, pressure: Pressure) -> usize {
        let high = min(max(self.high, limits.high_min), limits.high_max);
        match pressure {
            Pressure::Reclaimed => high_under_reclaim(high, limits.batch),
            Pressure::None | Pressure::BelowHigh => high,
        }
    }

    /// P328: the CPU went past what it may keep: one batch more from now on, if the zone has it.
    const fn raise(&mut self, limits: &PcpLimits, pressure: Pressure) {
        if matches!(pressure, Pressure::None) {
            let high = self.high(limits, pressure);
            self.high = min(high.saturating_add(limits.batch), limits.high_max);
        }
    }

    /// P326: how many blocks to fetch for an empty list; `count` pages are in all lists.
    pub const fn refill(
        mut self,
        order: u32,
        count: usize,
        limits: &PcpLimits,
        pressure: Pressure,
    ) -> (usize, Tuner) {
        let high = self.high(limits, pressure);
        let refill = refill(order, count, high, self.scale, limits);
        let wanted = limits.batch << min(self.scale as usize, super::BATCH_SCALE_MAX as usize);
        if order == 0 && limits.is_tuned() && refill.blocks < wanted {
            self.raise(limits, pressure);
        }
        self.scale = refill.scale;
        (refill.blocks, self)
    }

    /// P330: notes that a block of an order was freed. True if large blocks are freed one after the
    /// other, which another CPU allocates: all but a batch of what is there is to go back.
    pub const fn frees_for_others(&mut self, order: u32, limits: &PcpLimits) -> bool {
        let many = self.free_count >= limits.batch + limits.high_min / 2;
        let others = is_large(order) && self.freed_large && many;
        self.freed_large = is_large(order);
        others
    }

    /// P329: a block was freed while the zone is so.
    pub const fn shrink(&mut self, limits: &PcpLimits, pressure: Pressure) {
        if matches!(pressure, Pressure::BelowHigh) {
            let less = self.high(limits, pressure).saturating_sub(limits.batch);
            self.high = max(less, limits.high_min);
        }
    }

    /// P327, P328: how many pages to give back before a block is put to the `count` pages that are
    /// there; none, if there is room.
    pub const fn give_back(
        mut self,
        order: u32,
        count: usize,
        limits: &PcpLimits,
        pressure: Pressure,
    ) -> (usize, Tuner) {
        let high = self.high(limits, pressure);
        let excess = (count + (1 << order)).saturating_sub(high);
        if excess == 0 {
            return (0, self);
        }
        self.raise(limits, pressure);
        let most = max(high.saturating_sub(limits.batch), limits.batch);
        let wanted = min(max(self.free_count, limits.batch), most);
        (min(max(wanted, excess), count), self)
    }

    /// P328: a stat interval is over.
    #[must_use]
    pub const fn decay(mut self, limits: &PcpLimits) -> Tuner {
        let high = self.high(limits, Pressure::None);
        self.high = max(high - high / 8, limits.high_min);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PcpLimits = PcpLimits {
        batch: 63,
        high_min: 8192,
        high_max: 32768,
    };
    /// A zone whose caches start small.
    const SMALL: PcpLimits = PcpLimits {
        batch: 63,
        high_min: 252,
        high_max: 1000,
    };

    fn traffic(allocated: u64, freed: u64) -> Traffic {
        Traffic { allocated, freed }
    }

    /// What a single page that is freed gives back.
    fn single(tuner: Tuner, count: usize, limits: &PcpLimits) -> usize {
        tuner.give_back(0, count, limits, Pressure::None).0
    }

    #[test]
    fn consecutive_refills_double_and_a_free_halves() {
        // P326, P960
        let mut tuner = Tuner::default();
        for blocks in [63, 126, 252, 504, 1008, 2016, 2016] {
            let (refill, next) = tuner.refill(0, 0, &LIMITS, Pressure::None);
            assert_eq!(refill, blocks);
            tuner = next.learn(traffic(blocks as u64, 0));
        }
        assert_eq!((tuner.scale, tuner.high), (5, 0), "all within high_min");
        let full = tuner.refill(0, 8000, &LIMITS, Pressure::None);
        assert_eq!(full.0, 129, "room below high");
        for (freed, scale) in [(0, 5), (1, 2), (2, 1), (3, 0), (1000, 0)] {
            assert_eq!(tuner.learn(traffic(0, freed)).scale, scale, "{freed}");
        }
        assert_eq!(
            tuner.refill(3, 0, &LIMITS, Pressure::None),
            (7, tuner),
            "higher orders do not double"
        );
        let fixed = PcpLimits {
            high_max: 8192,
            ..LIMITS
        };
        let refill = |limits: &PcpLimits| tuner.refill(0, 0, limits, Pressure::None);
        assert_eq!(refill(&fixed), (63, tuner), "P704");
        assert_eq!(refill(&PcpLimits::BOOT).0, 1);
    }

    #[test]
    fn what_is_given_back_grows_with_frees_in_a_row() {
        // P327: clamp(free_count, batch, high - batch), and room for what comes
        let nothing = Tuner::default();
        for (freed, pages) in [(0, 63), (10, 63), (64, 64), (5000, 5000), (20_000, 8129)] {
            let learned = nothing.learn(traffic(0, freed));
            assert_eq!(learned.free_count, freed as usize);
            assert_eq!(single(learned, 8192, &LIMITS), pages, "{freed}");
        }
        assert_eq!(single(nothing, 8191, &LIMITS), 0, "there is room");
        let huge = nothing.give_back(9, 8192, &LIMITS, Pressure::None);
        assert_eq!(huge.0, 512);
        assert_eq!(single(nothing, 0, &PcpLimits::BOOT), 0, "nothing is there");
        let busy = nothing.learn(traffic(0, 1000));
        for (allocated, freed, left) in [(1, 0, 500), (3, 3, 125), (3, 10, 132), (64, 0, 0)] {
            assert_eq!(busy.learn(traffic(allocated, freed)).free_count, left);
        }
    }

    #[test]
    fn what_may_be_kept_rises_by_batches_and_decays_by_an_eighth() {
        // P328
        let high = |tuner: &Tuner| tuner.high(&SMALL, Pressure::None);
        let mut tuner = Tuner::default();
        assert_eq!(high(&tuner), 252);
        for expected in [315, 378, 441] {
            tuner = tuner.give_back(0, high(&tuner), &SMALL, Pressure::None).1;
            assert_eq!(high(&tuner), expected);
        }
        let (pages, same) = tuner.give_back(0, 440, &SMALL, Pressure::None);
        assert_eq!((pages, high(&same)), (0, 441), "it was within");
        // Refills that want more than there is room for.
        let (mut asks, mut sizes) = (Tuner::default(), std::vec::Vec::new());
        for _ in 0..20 {
            let (blocks, next) = asks.refill(0, 0, &SMALL, Pressure::None);
            sizes.push(blocks);
            asks = next;
        }
        assert_eq!(sizes[..7], [63, 126, 189, 252, 252, 315, 378]);
        assert_eq!((sizes[19], high(&asks)), (937, 1000), "high_max - batch");
        let mut decays = std::vec::Vec::new();
        for _ in 0..14 {
            asks = asks.decay(&SMALL);
            decays.push(high(&asks));
        }
        assert_eq!(decays[..4], [875, 766, 671, 588]);
        assert_eq!(decays[13], 252, "never below high_min");
        let less = PcpLimits {
            high_min: 100,
            high_max: 200,
            ..SMALL
        };
        assert_eq!(tuner.high(&less, Pressure::None), 200, "the zone shrank");
    }

    #[test]
    fn a_zone_in_need_keeps_less_in_caches() {
        // P329, P960
        let grown = Tuner {
            high: 1000,
            ..Tuner::default()
        };
        assert_eq!(grown.high(&SMALL, Pressure::Reclaimed), 252, "4 batches");
        let few = PcpLimits { batch: 7, ..SMALL };
        assert_eq!(grown.high(&few, Pressure::Reclaimed), 28);
        let (pages, after) = grown.give_back(0, 1000, &SMALL, Pressure::Reclaimed);
        assert_eq!((pages, after.high), (749, 1000), "it is kept in mind");
        assert_eq!(grown.refill(0, 0, &SMALL, Pressure::Reclaimed).0, 63);
        let mut tuner = grown;
        for high in [937, 874, 811] {
            tuner.shrink(&SMALL, Pressure::BelowHigh);
            assert_eq!(tuner.high(&SMALL, Pressure::BelowHigh), high);
            for other in [Pressure::None, Pressure::Reclaimed] {
                tuner.shrink(&SMALL, other);
            }
        }
        for _ in 0..20 {
            tuner.shrink(&SMALL, Pressure::BelowHigh);
            tuner = tuner.give_back(0, 1000, &SMALL, Pressure::BelowHigh).1;
        }
        assert_eq!(tuner.high(&SMALL, Pressure::None), 252);
    }

    #[test]
    fn large_blocks_freed_in_a_row_are_for_others() {
        // P330
        let mut tuner = Tuner::default().learn(traffic(0, 189));
        let mut free = |order| tuner.frees_for_others(order, &SMALL);
        let orders = [3, 3, 1, 2, 0, 3, 3, 4, 2, 2, 9, 1, 1];
        let expected = [0, 1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1];
        assert_eq!(orders.map(&mut free).map(i32::from), expected);
        tuner.free_count = 188;
        assert!(!tuner.frees_for_others(3, &SMALL), "batch + high_min / 2");
    }
}
