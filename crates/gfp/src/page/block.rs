//! The free space of one pageblock: 512 bits.
//!
//! ```text
//!   Line (64 B)   | word 0: frames 0..63 | word 1 | ... | word 7: frames 448..511 |   bit 1 = free
//! ```

pub(crate) use super::descriptor::{Block, CLASS_FULL, CLASS_PAIR, NO_ZONE};
use crate::frame::{MAX_PAGE_ORDER, NR_ORDERS, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::ops::Range;

/// Words of a [`Line`].
pub(crate) const LINE_WORDS: usize = PAGEBLOCK_PAGES / 64;

/// The order of a run of one word.
pub(crate) const WORD_ORDER: u8 = 6;

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
    #[inline(never)]
    pub(crate) fn best_run(&self, order: Order) -> Option<Run> {
        if order.get() < WORD_ORDER {
            let mut best = None;
            self.each_piece(order, |run| {
                best = Some(run);
                false
            });
            if best.is_some() {
                return best;
            }
        }
        best_of_words(self.full_words(), order)
    }

    /// Shows the free runs from `order` on that are smaller than a word, the smallest first and of
    /// several the lowest, until `more` says that they are enough.
    #[inline(always)]
    pub(crate) fn each_piece(&self, order: Order, mut more: impl FnMut(Run) -> bool) {
        // They lie in words that are free in part, often few. By word: what starts such a run.
        let mut starts = self.0.map(|word| if word == u64::MAX { 0 } else { word });
        for k in 0..order.get().min(WORD_ORDER) {
            starts
                .iter_mut()
                .for_each(|word| *word &= *word >> (1u32 << k));
        }
        let (first, mut some) = (STARTS[order.index().min(STARTS.len() - 1)], 0u32);
        for (i, word) in starts.iter_mut().enumerate() {
            *word &= first;
            some |= u32::from(*word != 0) << i;
        }
        let mut k = order.get();
        while some != 0 && k < WORD_ORDER {
            let (mut left, width) = (some, 1u32 << k);
            while left != 0 {
                let i = left.trailing_zeros() as usize % LINE_WORDS;
                left &= left - 1;
                let word = starts[i];
                let pairs = word & (word >> width) & STARTS[k as usize + 1];
                starts[i] = pairs;
                some &= !(u32::from(pairs == 0) << i);
                let mut single = word & !(pairs | pairs << width);
                while single != 0 {
                    let start = i * 64 + single.trailing_zeros() as usize;
                    single &= single - 1;
                    if !more(Run { start, order: k }) {
                        return;
                    }
                }
            }
            k += 1;
        }
    }

    /// The order of the largest free aligned run.
    pub(crate) fn largest(&self) -> Option<u8> {
        let full = self.full_words();
        if full != 0 {
            return Some(largest_of_words(full));
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

    /// One bit a word that is wholly free.
    #[inline(always)]
    fn full_words(&self) -> u8 {
        let mut full = 0;
        for (i, word) in self.0.iter().enumerate() {
            full |= ((word.load(Relaxed) == u64::MAX) as u8) << i;
        }
        full
    }

    /// [`Bits::best_run`].
    #[inline]
    pub(crate) fn best_run(&self, order: Order) -> Option<Run> {
        match order.get() < WORD_ORDER {
            true => self.bits().best_run(order),
            false => best_of_words(self.full_words(), order),
        }
    }

    /// [`Bits::largest`].
    #[inline]
    pub(crate) fn largest(&self) -> Option<u8> {
        match self.full_words() {
            0 => self.bits().largest(),
            full => Some(largest_of_words(full)),
        }
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
            let (old, mask) = (word.load(Relaxed), mask(start, order));
            if old & mask != 0 {
                return None;
            }
            word.store(old | mask, Relaxed);
            merged = order_around(old | mask, start as u32 % 64);
            if merged < WORD_ORDER {
                return Some(merged);
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

    /// The first free frame, if it and all behind it are all that is free: `free` frames.
    #[inline(always)]
    pub(crate) fn first_of_tail(&self, free: usize) -> Option<usize> {
        let word = |i: usize| self.0[i % LINE_WORDS].load(Relaxed);
        // If they are the tail, the first of them is there, and no word before has one.
        let first = PAGEBLOCK_PAGES - free;
        let (at, mask) = (first / 64, u64::MAX << (first % 64));
        if free == 0 || word(at) & !mask != 0 || word(LINE_WORDS - 1) >> 63 == 0 {
            return None;
        }
        let mut before = at;
        while before != 0 {
            before -= 1;
            if word(before) != 0 {
                return None;
            }
        }
        Some(first)
    }

    /// Marks frames free, at least one, of which none is. Returns the stretch of free frames that
    /// they are part of then; `None`, and nothing done, if one is free already. The zone's lock is
    /// held.
    pub(crate) fn set(&self, frames: Range<usize>) -> Option<Range<usize>> {
        debug_assert!(!frames.is_empty() && frames.end <= PAGEBLOCK_PAGES);
        if frames.start / 64 == (frames.end - 1) / 64 {
            let word = &self.0[frames.start / 64];
            let (old, ones) = (word.load(Relaxed), u64::MAX >> (64 - frames.len()));
            let mask = ones << (frames.start % 64);
            if old & mask != 0 {
                return None;
            }
            word.store(old | mask, Relaxed);
        } else {
            let mut words = in_words(frames.clone());
            if words.any(|(word, mask)| self.0[word].load(Relaxed) & mask != 0) {
                return None;
            }
            for (word, mask) in in_words(frames.clone()) {
                let word = &self.0[word];
                word.store(word.load(Relaxed) | mask, Relaxed);
            }
        }
        let Range { mut start, mut end } = frames;
        while start != 0 {
            let here = (start - 1) % 64; // of the frame before
            let word = self.0[(start - 1) / 64].load(Relaxed);
            let free = (word << (63 - here)).leading_ones() as usize;
            start -= free;
            if free <= here {
                break;
            }
        }
        while end != PAGEBLOCK_PAGES {
            let here = end % 64;
            let word = self.0[end / 64].load(Relaxed);
            let free = (word >> here).trailing_ones() as usize;
            end += free;
            if here + free < 64 {
                break;
            }
        }
        Some(start..end)
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
        if start % 64 + pages <= 64 {
            let (word, mask) = (&self.0[start / 64], u64::MAX >> (64 - pages));
            return word.store(word.load(Relaxed) & !(mask << (start % 64)), Relaxed);
        }
        if (start | pages).is_multiple_of(64) {
            let words = &self.0[start / 64..][..pages / 64];
            return words.iter().for_each(|word| word.store(0, Relaxed));
        }
        for (word, mask) in in_words(start..start + pages) {
            let word = &self.0[word];
            word.store(word.load(Relaxed) & !mask, Relaxed);
        }
    }
}

/// Frames as the words they are in, with their bits there.
#[inline]
fn in_words(frames: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = frames;
    (start / 64..end.div_ceil(64)).map(move |word| {
        let from = u64::MAX << (start.max(word * 64) % 64);
        let to = u64::MAX >> ((64 * (word + 1) - end.min(64 * (word + 1))) & 63);
        (word % LINE_WORDS, from & to)
    })
}

/// [`Bits::best_run`] in words that are wholly free.
fn best_of_words(mut full: u8, order: Order) -> Option<Run> {
    for k in WORD_ORDER..PAGEBLOCK_ORDER {
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

/// The order of the largest run of words that are wholly free, at least one.
fn largest_of_words(full: u8) -> u8 {
    let (mut best, mut runs) = (WORD_ORDER, full);
    for k in WORD_ORDER..PAGEBLOCK_ORDER {
        runs = runs & (runs >> (1u32 << (k - 6))) & WORD_STARTS[k as usize - 5];
        if runs == 0 {
            break;
        }
        best = k + 1;
    }
    best
}

/// The order of the largest free aligned run that frame `at` of a word is in, which is free.
///
/// An aligned run of 2^k frames around it is free if each frame that is not differs from `at` in
/// bit k or above. Of these the next before or behind it differs least.
#[inline(always)]
fn order_around(word: u64, at: u32) -> u8 {
    let taken = !word;
    // 64 behind or before, if there is none: that is more than any other.
    let behind = at + (taken >> at).trailing_zeros();
    let before = at.wrapping_sub((taken << (63 - at)).leading_zeros());
    ((behind ^ at).min(before ^ at) | 1).ilog2() as u8
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
mod tests;
