//! The free space of one pageblock: 512 bits.
//!
//! ```text
//!   Line (64 B)   | word 0: frames 0..63 | word 1 | ... | word 7: frames 448..511 |   bit 1 = free
//! ```

pub(crate) use super::descriptor::{Block, CLASS_FULL, CLASS_PAIR, NO_ZONE};
use crate::frame::{MAX_PAGE_ORDER, NR_ORDERS, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of a [`Line`].
pub(crate) const LINE_WORDS: usize = PAGEBLOCK_PAGES / 64;

/// The order of a run of one word.
const WORD_ORDER: u8 = 6;

/// Bits that may start an aligned run of order 0..=5 inside a word.
const STARTS: [u64; 7] = [
    u64::MAX,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    0x0000_0000_0000_0001,
];
/// The same for whole words: orders 6..=9 as bits of a byte, one a word.
const WORD_STARTS: [u8; 4] = [0xff, 0x55, 0x11, 0x01];

/// A copy of the free bits of one pageblock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bits(pub(crate) [u64; LINE_WORDS]);

/// A free, naturally aligned run in a pageblock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// First frame, relative to the block.
    pub(crate) start: usize,
    /// Its order; its buddy is not free, so this is the whole of it.
    pub(crate) order: u8,
}

impl Bits {
    /// The free run of the smallest order that is at least `order`, lowest address first.
    pub(crate) fn best_run(&self, order: Order) -> Option<Run> {
        // `at[i]`: bits that start a free aligned run of order `k` in word i, from k = `order` on.
        let mut at = self.0;
        let mut full = self.full_words();
        if order.get() < 6 {
            for starts in &mut at {
                for k in 0..order.get() {
                    *starts &= *starts >> (1u32 << k);
                }
                *starts &= STARTS[order.index()];
            }
        }
        for k in order.get()..6 {
            let width = 1u32 << k;
            for (i, starts) in at.iter_mut().enumerate() {
                let pairs = *starts & (*starts >> width) & STARTS[k as usize + 1];
                let single = *starts & !(pairs | pairs << width);
                if single != 0 {
                    return Some(Run {
                        start: i * 64 + single.trailing_zeros() as usize,
                        order: k,
                    });
                }
                *starts = pairs;
            }
        }
        for k in 6..PAGEBLOCK_ORDER {
            let width = 1u32 << (k - 6);
            let pairs = full & (full >> width) & WORD_STARTS[k as usize - 5];
            if k >= order.get() {
                let single = full & !(pairs | pairs << width);
                if single != 0 {
                    return Some(Run {
                        start: single.trailing_zeros() as usize * 64,
                        order: k,
                    });
                }
            }
            full = pairs;
        }
        let whole = full & 1 != 0 && order.get() <= PAGEBLOCK_ORDER;
        whole.then_some(Run {
            start: 0,
            order: PAGEBLOCK_ORDER,
        })
    }

    /// The order of the largest free aligned run.
    pub(crate) fn largest(&self) -> Option<u8> {
        let full = self.full_words();
        if full != 0 {
            let mut best = 6;
            let mut runs = full;
            for k in 6..PAGEBLOCK_ORDER {
                runs = runs & (runs >> (1u32 << (k - 6))) & WORD_STARTS[k as usize - 5];
                if runs == 0 {
                    break;
                }
                best = k + 1;
            }
            return Some(best);
        }
        let mut at = self.0;
        let mut best = None;
        for k in 0..6u8 {
            let mut any = 0;
            for starts in &mut at {
                any |= *starts;
                *starts = *starts & (*starts >> (1u32 << k)) & STARTS[k as usize + 1];
            }
            if any == 0 {
                break;
            }
            best = Some(k);
        }
        best
    }

    /// One bit a word that is wholly free.
    fn full_words(&self) -> u8 {
        let mut full = 0;
        for (i, word) in self.0.iter().enumerate() {
            full |= ((*word == u64::MAX) as u8) << i;
        }
        full
    }
}

/// The free bits of one pageblock, changed under its zone's lock, read anywhere.
#[repr(align(64))]
pub(crate) struct Line([AtomicU64; LINE_WORDS]);

impl Line {
    /// A copy of the bits.
    #[inline]
    pub(crate) fn bits(&self) -> Bits {
        Bits(core::array::from_fn(|i| self.0[i].load(Relaxed)))
    }

    /// True if every frame of the run is free.
    #[inline]
    pub(crate) fn all_free(&self, start: usize, order: Order) -> bool {
        debug_assert!(start & (order.pages() - 1) == 0 && start + order.pages() <= PAGEBLOCK_PAGES);
        if order.get() < 6 {
            let mask = mask(start, order);
            return self.0[start / 64].load(Relaxed) & mask == mask;
        }
        let words = &self.0[start / 64..][..order.pages() / 64];
        words.iter().all(|w| w.load(Relaxed) == u64::MAX)
    }

    /// True if no frame of the run is free.
    #[inline]
    pub(crate) fn none_free(&self, start: usize, order: Order) -> bool {
        debug_assert!(start & (order.pages() - 1) == 0 && start + order.pages() <= PAGEBLOCK_PAGES);
        if order.get() < 6 {
            return self.0[start / 64].load(Relaxed) & mask(start, order) == 0;
        }
        self.0[start / 64..][..order.pages() / 64]
            .iter()
            .all(|w| w.load(Relaxed) == 0)
    }

    /// True if this frame is free.
    #[inline]
    pub(crate) fn is_free(&self, frame: usize) -> bool {
        self.0[frame / 64].load(Relaxed) >> (frame % 64) & 1 != 0
    }

    /// Marks a run free, of which no frame is free. Returns the order of the run that it makes with
    /// its free buddies; `None`, and nothing done, if a frame is free already. The zone's lock is
    /// held.
    #[inline]
    pub(crate) fn set_merged(&self, start: usize, order: Order) -> Option<u8> {
        let mut merged = order.get();
        if merged < WORD_ORDER {
            let word = &self.0[start / 64 % LINE_WORDS];
            let (old, mut mask) = (word.load(Relaxed), mask(start, order));
            if old & mask != 0 {
                return None;
            }
            let new = old | mask;
            word.store(new, Relaxed);
            // The run and its buddy, twice as wide at each step.
            let mut at = start % 64;
            loop {
                let width = 1 << merged;
                let buddy = if at & width == 0 {
                    mask << width
                } else {
                    mask >> width
                };
                if new & buddy != buddy {
                    return Some(merged);
                }
                mask |= buddy;
                at &= !width;
                merged += 1;
                if merged == WORD_ORDER {
                    break;
                }
            }
        } else {
            let words = match order {
                Order::PAGEBLOCK => &self.0[..],
                _ => &self.0[start / 64..][..order.pages() / 64],
            };
            if words.iter().fold(0, |some, word| some | word.load(Relaxed)) != 0 {
                return None;
            }
            words.iter().for_each(|word| word.store(u64::MAX, Relaxed));
            if order == Order::PAGEBLOCK {
                return Some(merged);
            }
        }
        let mut word = start / 64;
        while merged < PAGEBLOCK_ORDER {
            let words = 1 << (merged - WORD_ORDER);
            let buddy = &self.0[(word ^ words) & (LINE_WORDS - 1)..][..words];
            if buddy.iter().any(|word| word.load(Relaxed) != u64::MAX) {
                break;
            }
            word &= !words;
            merged += 1;
        }
        Some(merged)
    }

    /// Marks all frames free; the zone's lock is held.
    #[inline]
    pub(crate) fn set_all(&self) {
        self.0.iter().for_each(|word| word.store(u64::MAX, Relaxed));
    }

    /// Marks all frames taken; the zone's lock is held.
    #[inline]
    pub(crate) fn clear_all(&self) {
        self.0.iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Marks frames taken, any number but 0 from `start` on; the zone's lock is held.
    #[inline]
    pub(crate) fn clear(&self, start: usize, pages: usize) {
        debug_assert!(pages != 0 && start + pages <= PAGEBLOCK_PAGES);
        let word = &self.0[start / 64];
        if start % 64 + pages <= 64 {
            let mask = (u64::MAX >> (64 - pages)) << (start % 64);
            return word.store(word.load(Relaxed) & !mask, Relaxed);
        }
        if (start | pages).is_multiple_of(64) {
            let words = &self.0[start / 64..][..pages / 64];
            return words.iter().for_each(|word| word.store(0, Relaxed));
        }
        let (mut at, end) = (start, start + pages);
        while at < end {
            let here = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - here)) << (at % 64);
            let word = &self.0[at / 64];
            word.store(word.load(Relaxed) & !mask, Relaxed);
            at += here;
        }
    }
}

/// The bits of a run of order 0..=5 in its word.
#[inline]
fn mask(start: usize, order: Order) -> u64 {
    ((1u64 << order.pages()) - 1) << (start % 64)
}

/// The free runs of a pageblock that is not one of a pair, by order.
pub(crate) fn runs(line: &Line) -> [u16; NR_ORDERS] {
    let mut counts = [0u16; NR_ORDERS];
    let mut frame = 0;
    while frame < PAGEBLOCK_PAGES {
        if !line.is_free(frame) {
            frame += 1;
            continue;
        }
        let mut order = Order::ZERO;
        while order < Order::PAGEBLOCK
            && frame.is_multiple_of(2 * order.pages())
            && line.all_free(frame, next(order))
        {
            order = next(order);
        }
        counts[order.index()] += 1;
        frame += order.pages();
    }
    counts
}

/// The largest block that starts at `at` and ends before `end`.
pub(crate) fn largest_block(at: Pfn, end: Pfn) -> Order {
    let by_align = (at.0.trailing_zeros()).min(MAX_PAGE_ORDER as u32) as u8;
    let by_size = (end.0 - at.0).ilog2().min(MAX_PAGE_ORDER as u32) as u8;
    Order::new(by_align.min(by_size)).unwrap_or_default()
}

/// The next larger order.
fn next(order: Order) -> Order {
    Order::new(order.get() + 1).unwrap_or(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(o: u8) -> Order {
        Order::new(o).unwrap()
    }

    fn naive_largest(bits: &[bool; 512]) -> Option<u8> {
        (0..=9u8)
            .rev()
            .find(|&o| bits.chunks(1 << o).any(|run| run.iter().all(|&b| b)))
    }

    fn naive_best(bits: &[bool; 512], want: u8) -> Option<Run> {
        (want..=9).find_map(|o| {
            let size = 1usize << o;
            (0..512 / size).find_map(|i| {
                let free = |i: usize| bits[i * size..(i + 1) * size].iter().all(|&b| b);
                let whole = free(i) && (o == 9 || !free(i ^ 1));
                whole.then_some(Run {
                    start: i * size,
                    order: o,
                })
            })
        })
    }

    #[test]
    fn runs_are_found_as_a_naive_search_finds_them() {
        // A small deterministic generator; densities from nearly full to nearly empty.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..3000 {
            let mut bits = [false; 512];
            for _ in 0..round % 60 {
                let o = (next() % 10) as u32;
                let size = 1usize << o;
                let start = (next() as usize % 512) / size * size;
                let free = next() % 4 != 0;
                bits[start..start + size].fill(free);
            }
            let mut words = [0u64; 8];
            for (i, &b) in bits.iter().enumerate() {
                words[i / 64] |= (b as u64) << (i % 64);
            }
            let line = Bits(words);
            assert_eq!(line.largest(), naive_largest(&bits), "round {round}");
            for o in 0..=9 {
                assert_eq!(
                    line.best_run(order(o)),
                    naive_best(&bits, o),
                    "round {round} order {o}"
                );
            }
        }
    }

    #[test]
    fn a_run_that_is_set_merges_as_far_as_its_buddies_are_free() {
        // P301, P302
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut random = move |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        let line = Line(core::array::from_fn(|_| AtomicU64::new(0)));
        for _ in 0..200 {
            line.clear_all();
            let mut free = [false; 512];
            // In the end every frame is free.
            while free.contains(&false) {
                let o = order(random(10) as u8);
                let start = random(512) & !(o.pages() - 1);
                let taken = free[start..start + o.pages()].contains(&true);
                let merged = line.set_merged(start, o);
                assert_eq!(merged.is_none(), taken);
                if !taken {
                    free[start..start + o.pages()].fill(true);
                    let whole = |m: &u8| {
                        let pages = 1 << m;
                        let first = start & !(pages - 1);
                        !free[first..first + pages].contains(&false)
                    };
                    let expected = (o.get()..=9).take_while(whole).last();
                    assert_eq!(merged, expected, "{start} {o:?}");
                }
                assert!((0..512).all(|i| line.is_free(i) == free[i]));
            }
        }
    }

    #[test]
    fn best_run_prefers_the_smallest_that_fits() {
        let mut words = [0u64; 8];
        words[0] = 0xff00; // an order-3 run
        words[1] = 0b1100; // an order-1 run
        assert_eq!(
            Bits(words).best_run(order(0)),
            Some(Run {
                start: 66,
                order: 1
            })
        );
        assert_eq!(
            Bits(words).best_run(order(2)),
            Some(Run { start: 8, order: 3 })
        );
        assert_eq!(Bits(words).best_run(order(4)), None);
    }
}
