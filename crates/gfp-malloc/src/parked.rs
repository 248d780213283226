//! Freed areas that wait for the next request of their size.
//!
//! 1. **Why.** The operating system charges about a microsecond for every page that is touched for
//!    the first time. A program that frees an array of 8 MiB and asks for the next would pay that
//!    2048 times; here it gets the same pages again.
//! 2. **Structure.** An area has one place, chosen by its address, that it can stand in: a word
//!    with its address and, in the bits that the alignment leaves free, its size. So of two frees
//!    of one area that race, the second finds it standing there.
//! 3. **Bounds.** No more than a small share of the machine, and it is all given up before a
//!    request fails: the budget of the program is not touched.
//! 4. **Context.** Any: each step is one atomic operation on one word.

use core::sync::atomic::{AtomicUsize, Ordering};
use gfp::frame::PAGE_SIZE;

/// Places; a few large buffers are what programs free and ask for again.
const PLACES: usize = 16;
/// The unit of the size in a word: 4095 of them are the largest area that can stand here.
const UNIT: usize = 64 << 10;
/// The most that stands here, in bytes, whatever the machine has.
const MOST: usize = 32 << 20;

/// The bits of a word that hold the size.
const SIZE_BITS: usize = PAGE_SIZE - 1;

/// Freed areas of one heap.
pub struct Parked {
    places: [AtomicUsize; PLACES],
    bytes: AtomicUsize,
    limit: usize,
}

/// What became of an area.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Park {
    /// It stands here now.
    Done,
    /// There is no room.
    Full,
    /// It stands here already: it was freed before.
    Twice,
}

impl Parked {
    /// For a machine of `memory` bytes: one sixteenth of it, at most 32 MiB.
    pub const fn new(memory: usize) -> Parked {
        let share = memory / 16;
        Parked {
            places: [const { AtomicUsize::new(0) }; PLACES],
            bytes: AtomicUsize::new(0),
            limit: if share < MOST { share } else { MOST },
        }
    }

    /// The place of an area: a spread of the page number, so that neighbours differ.
    fn place(&self, addr: usize) -> &AtomicUsize {
        let spread = (addr / PAGE_SIZE).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.places[spread >> 60]
    }

    /// True if the area at `addr` stands here.
    pub fn contains(&self, addr: usize) -> bool {
        let word = self.place(addr).load(Ordering::Relaxed);
        word != 0 && word & !SIZE_BITS == addr
    }

    /// Bytes that stand here, about.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many areas stand here.
    pub fn count(&self) -> usize {
        let standing = |place: &&AtomicUsize| place.load(Ordering::Relaxed) != 0;
        self.places.iter().filter(standing).count()
    }

    /// Takes an area of `bytes`, a multiple of the page size.
    pub fn park(&self, addr: usize, bytes: usize) -> Park {
        debug_assert!(addr != 0 && addr.is_multiple_of(PAGE_SIZE));
        if self.contains(addr) {
            return Park::Twice;
        }
        let units = bytes / UNIT;
        if units == 0 || units > SIZE_BITS || self.bytes() + units * UNIT > self.limit {
            return Park::Full;
        }
        // Release: pairs with the Acquire in `take` and `give_up`; what the last owner wrote is
        // ordered before what the next one does.
        let word = addr | units;
        match self
            .place(addr)
            .compare_exchange(0, word, Ordering::Release, Ordering::Relaxed)
        {
            Ok(_) => {
                // Two that park at once may pass the limit by one area; it is no promise.
                self.bytes.fetch_add(units * UNIT, Ordering::Relaxed);
                Park::Done
            }
            Err(there) if there & !SIZE_BITS == addr => Park::Twice,
            Err(_) => Park::Full,
        }
    }

    /// An area for `size` bytes, at most a quarter too large.
    pub fn take(&self, size: usize) -> Option<usize> {
        if self.bytes() < size {
            return None;
        }
        self.places.iter().find_map(|place| {
            let word = place.load(Ordering::Relaxed);
            let room = (word & SIZE_BITS) * UNIT;
            let fits = room >= size && room - size <= size / 4;
            (word != 0 && fits)
                .then(|| self.remove(place, word))
                .flatten()
        })
    }

    /// Any area, to be freed.
    pub fn give_up(&self) -> Option<usize> {
        self.places.iter().find_map(|place| {
            let word = place.load(Ordering::Relaxed);
            (word != 0).then(|| self.remove(place, word)).flatten()
        })
    }

    fn remove(&self, place: &AtomicUsize, word: usize) -> Option<usize> {
        // Acquire: pairs with the Release in `park`. A word that is there again after it was gone
        // stands for the same area, freed again: no harm.
        place
            .compare_exchange(word, 0, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        self.bytes
            .fetch_sub((word & SIZE_BITS) * UNIT, Ordering::Relaxed);
        Some(word & !SIZE_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn an_area_is_found_by_its_size_and_by_no_other() {
        let parked = Parked::new(1 << 30);
        assert_eq!(parked.park(0x10_0000_0000, 8 * MIB), Park::Done);
        assert!(parked.contains(0x10_0000_0000) && !parked.contains(0x10_0000_1000));
        assert_eq!(parked.take(9 * MIB), None, "too small");
        assert_eq!(parked.take(6 * MIB), None, "more than a quarter too large");
        assert_eq!(parked.take(7 * MIB), Some(0x10_0000_0000));
        assert_eq!((parked.take(7 * MIB), parked.bytes()), (None, 0));
    }

    #[test]
    fn a_second_free_is_seen() {
        let parked = Parked::new(1 << 30);
        assert_eq!(parked.park(0x10_0000_0000, 8 * MIB), Park::Done);
        assert_eq!(parked.park(0x10_0000_0000, 8 * MIB), Park::Twice);
        assert_eq!((parked.count(), parked.bytes()), (1, 8 * MIB));
    }

    #[test]
    fn the_limit_holds_and_all_is_given_up() {
        let parked = Parked::new(256 * MIB);
        let stood = (1..=64)
            .filter(|n| parked.park(n * (64 * MIB), 5 * MIB) == Park::Done)
            .count();
        assert_eq!((stood, parked.bytes()), (3, 15 * MIB), "a sixteenth");
        assert_eq!(core::iter::from_fn(|| parked.give_up()).count(), 3);
        assert_eq!((parked.count(), parked.bytes()), (0, 0));
        assert_eq!(
            parked.park(PAGE_SIZE, 4 * PAGE_SIZE),
            Park::Full,
            "too small to tell its size"
        );
    }
}
