//! What is known of one pageblock, in 4 bytes.
//!
//! ```text
//!          15             6   5      4    3     0
//!         +----------------+------+-------+-------+
//!   state | free: 0 to 512 | plug | clean | class |   changed under the zone's lock
//!         +----------------+------+-------+-------+
//!          15   12   11     10       9  7   6    0
//!         +------+------+----------+------+-------+
//!   place | zero | skip | isolated | type | zone  |   changed by anybody, one part at a time
//!         +------+------+----------+------+-------+
//! ```
//!
//! Both words are read anywhere. A free needs only `place`. The parts of `state` have one writer at
//! a time, who loads and stores. Those of `place` change seldom and have several: `skip` is a hint
//! and written without a lock, so each part is changed by exchange and no writer loses the part of
//! another. All interleavings: `interleavings/descriptor.rs`.

use crate::flags::MigrateType;
use crate::frame::{PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};
use crate::policy::compaction::Hints;
use crate::sync::atomic::{AtomicU16, Ordering::Relaxed};
use crate::sync::stock;

/// [`Block::class`] of a block with no free frame.
pub(crate) const CLASS_FULL: u8 = 0xff;
/// [`Block::class`] of the two blocks of a free block of the largest order.
pub(crate) const CLASS_PAIR: u8 = PAGEBLOCK_ORDER + 1;
/// [`Block::zone`] of a block that belongs to no zone.
pub(crate) const NO_ZONE: u8 = 0x7f;

/// The class and 1; 0: full.
const RANK: u16 = 0xf;
const CLEAN: u16 = 1 << 4;
const PLUG: u16 = 1 << 5;
const FREE_SHIFT: u32 = 6;

const ZONE: u16 = 0x7f;
/// In [`ZONE`], of a block that is not there: the other bits say which zone it will join.
const ABSENT: u8 = 0x40;
const KIND_SHIFT: u32 = 7;
const KIND: u16 = 0x7 << KIND_SHIFT;
const ISOLATED: u16 = 1 << 10;
const SKIP: u16 = 1 << 11;
const ZERO_SHIFT: u32 = 12;
const ZERO: u16 = 0xf << ZERO_SHIFT;
/// Frames that one step of `zero` stands for.
const STEP: usize = 64;

/// The type by its bits and the bit [`ISOLATED`] above them.
const KINDS: [MigrateType; 16] = {
    let mut kinds = [MigrateType::Isolate; 16];
    let mut i = 0;
    while i < MigrateType::COUNT {
        kinds[i] = MigrateType::ALL[i];
        i += 1;
    }
    kinds
};

const _: () = assert!(ISOLATED == 8 << KIND_SHIFT && stock::KEY == ZONE | KIND | ISOLATED);
const _: () = assert!((CLASS_PAIR as u16) < RANK && MigrateType::COUNT <= 8);
const _: () = assert!(PAGEBLOCK_PAGES < 1 << (16 - FREE_SHIFT));
const _: () = assert!(PAGEBLOCK_PAGES / STEP <= (ZERO >> ZERO_SHIFT) as usize);

/// What is known of the content of pages that nobody owns.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Nothing.
    Any,
    /// All of it reads as zero.
    Zero,
}

/// The descriptor of one pageblock.
///
/// | `zone` | `plug` | the block is | next |
/// |---|---|---|---|
/// | a zone | [`NO_ZONE`] | there since boot | |
/// | [`NO_ZONE`] | [`NO_ZONE`] | a hole | |
/// | [`NO_ZONE`] | a zone | absent; its memory may be plugged in | present |
/// | a zone | the same zone | present since it was plugged in | absent |
#[repr(C)]
pub(crate) struct Block {
    /// First: fast paths read it alone, by the block's address.
    place: AtomicU16,
    state: AtomicU16,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Block>() == 4);

impl Block {
    /// A block of no zone, with no free frame.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Block {
        Block {
            state: AtomicU16::new(0),
            place: AtomicU16::new(Block::HOLE),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Block {
        Block {
            state: AtomicU16::new(0),
            place: AtomicU16::new(Block::HOLE),
        }
    }

    const HOLE: u16 = (MigrateType::Movable as u16) << KIND_SHIFT | NO_ZONE as u16;

    /// Sets the bits of `mask` in `state`. Its writers take turns: see each setter.
    #[inline]
    fn store_state(&self, mask: u16, bits: u16) {
        debug_assert!(bits & !mask == 0);
        self.state
            .store(self.state.load(Relaxed) & !mask | bits, Relaxed);
    }

    /// Sets the bits of `mask` in `place`, whoever sets others at the same time.
    fn set_place(&self, mask: u16, bits: u16) {
        debug_assert!(bits & !mask == 0);
        let mut old = self.place.load(Relaxed);
        // Relaxed: each part stands for itself. What a part stands for is ordered by the lock
        // under which it is written; a hint needs no order.
        while let Err(now) =
            self.place
                .compare_exchange_weak(old, old & !mask | bits, Relaxed, Relaxed)
        {
            old = now;
        }
    }

    /// Free frames.
    #[inline]
    pub(crate) fn free(&self) -> usize {
        (self.state.load(Relaxed) >> FREE_SHIFT) as usize
    }

    /// Counts frames that came free, or were taken if `frames` is less than 0; the zone's lock is
    /// held.
    #[inline]
    pub(crate) fn add_free(&self, frames: isize) {
        debug_assert!(
            self.free()
                .checked_add_signed(frames)
                .is_some_and(|free| free <= PAGEBLOCK_PAGES)
        );
        let change = (frames << FREE_SHIFT) as u16;
        self.state
            .store(self.state.load(Relaxed).wrapping_add(change), Relaxed);
    }

    /// [`Block::add_free`] of frames that came free, and [`Block::is_class_below`].
    #[inline(always)]
    pub(crate) fn add_free_below(&self, frames: usize, order: u8) -> bool {
        debug_assert!(self.free() + frames <= PAGEBLOCK_PAGES);
        let state = self.state.load(Relaxed);
        let change = (frames << FREE_SHIFT) as u16;
        self.state.store(state.wrapping_add(change), Relaxed);
        state & RANK <= order.into()
    }

    /// The largest free run's order, [`CLASS_FULL`] or [`CLASS_PAIR`]: where the index has it.
    #[inline]
    pub(crate) fn class(&self) -> u8 {
        ((self.state.load(Relaxed) & RANK) as u8).wrapping_sub(1)
    }

    /// True if the block has no free run of this order.
    #[inline]
    pub(crate) fn is_class_below(&self, order: u8) -> bool {
        self.state.load(Relaxed) & RANK <= order.into()
    }

    /// The zone's lock is held.
    #[inline]
    pub(crate) fn set_class(&self, class: u8) {
        self.store_state(RANK, class.wrapping_add(1).into());
    }

    /// True if the operating system has the memory behind this block (free page reporting): all of
    /// it is free, and reads as zero where the platform promises that.
    #[inline]
    pub(crate) fn is_clean(&self) -> bool {
        self.state.load(Relaxed) & CLEAN != 0
    }

    /// The zone's lock is held.
    #[inline]
    pub(crate) fn set_clean(&self, clean: u8) {
        debug_assert!(clean <= 1);
        self.store_state(CLEAN, clean as u16 * CLEAN);
    }

    /// The mobility type that its free memory has now: `Isolate` while it is isolated (P311).
    #[inline]
    pub(crate) fn kind(&self) -> MigrateType {
        self.place().kind()
    }

    /// The mobility type that it has when it is not isolated.
    pub(crate) fn kind_beneath(&self) -> MigrateType {
        KINDS[(self.place.load(Relaxed) >> KIND_SHIFT & 0x7) as usize]
    }

    /// Changes the type beneath; what is isolated stays so.
    #[inline]
    pub(crate) fn set_kind(&self, kind: MigrateType) {
        self.set_place(KIND, (kind as u16) << KIND_SHIFT);
    }

    /// True if what comes free in this block is kept from allocations; its type stays meanwhile.
    #[inline]
    pub(crate) fn is_isolated(&self) -> bool {
        self.place.load(Relaxed) & ISOLATED != 0
    }

    /// The zone's lock is held. What makes all CPUs see it is said in `isolate.rs`.
    pub(crate) fn set_isolated(&self, isolated: u8) {
        debug_assert!(isolated <= 1);
        self.set_place(ISOLATED, isolated as u16 * ISOLATED);
    }

    /// Index of the zone, [`NO_ZONE`] for a hole or what is absent. It has one zone or none.
    #[inline]
    pub(crate) fn zone(&self) -> u8 {
        Block::zone_in(self.place.load(Relaxed))
    }

    #[inline]
    fn zone_in(place: u16) -> u8 {
        match (place & ZONE) as u8 {
            zone if zone < ABSENT => zone,
            _ => NO_ZONE,
        }
    }

    /// What says zone and type, for a free: a key, of which the other bits say nothing.
    #[inline(always)]
    pub(crate) fn key(&self) -> &AtomicU16 {
        &self.place
    }

    /// Zone, type and known content at once.
    #[inline]
    pub(crate) fn place(&self) -> Place {
        Place(self.place.load(Relaxed))
    }

    /// Frames that end at `end` were used: only what lies behind them may be known. The zone's lock
    /// is held.
    #[cold]
    pub(crate) fn forget_zero(&self, end: usize) {
        debug_assert!(self.place().is_zero_before(end));
        let left = (PAGEBLOCK_PAGES - end) / STEP;
        self.set_place(ZERO, (left as u16) << ZERO_SHIFT);
    }

    /// All frames of the block that are free, or come free for the first time, are zero; or nothing
    /// is known of them. The zone's lock is held.
    pub(crate) fn set_content(&self, content: Content) {
        let steps = match content {
            Content::Zero => PAGEBLOCK_PAGES / STEP,
            Content::Any => 0,
        };
        self.set_place(ZERO, (steps as u16) << ZERO_SHIFT);
    }

    /// Makes the block part of a zone: boot does, and who holds the lock of plugging.
    pub(crate) fn set_zone(&self, zone: u8) {
        debug_assert!(zone < ABSENT);
        self.set_place(ZONE, zone.into());
    }

    /// The zone that the block's memory joins when it is plugged in, [`NO_ZONE`] if that may not
    /// be.
    pub(crate) fn plug(&self) -> u8 {
        match self.state.load(Relaxed) & PLUG {
            0 => NO_ZONE,
            _ => (self.place.load(Relaxed) & ZONE) as u8 & !ABSENT,
        }
    }

    /// Says at boot that the block's memory is absent and may be plugged in.
    pub(crate) fn set_plug(&self, zone: u8) {
        debug_assert!(zone < ABSENT);
        self.store_state(PLUG, PLUG);
        self.set_place(ZONE, (zone | ABSENT).into());
    }

    /// P425: what the scanners of compaction remember. A hint: written without a lock.
    pub(crate) fn hints(&self) -> Hints {
        match self.place.load(Relaxed) & SKIP {
            0 => Hints::None,
            _ => Hints::Skip,
        }
    }

    pub(crate) fn set_hints(&self, hints: Hints) {
        // Most blocks have the hint that they are to have.
        if self.hints() != hints {
            self.set_place(SKIP, (hints == Hints::Skip) as u16 * SKIP);
        }
    }
}

/// A copy of the second word.
#[derive(Copy, Clone)]
pub(crate) struct Place(u16);

impl Place {
    /// [`Block::kind`].
    #[inline]
    pub(crate) fn kind(self) -> MigrateType {
        KINDS[(self.0 >> KIND_SHIFT & 0xf) as usize]
    }

    /// The zone's number; of what is in no zone a number that no zone has.
    #[inline]
    pub(crate) fn zone_or_more(self) -> usize {
        (self.0 & ZONE).into()
    }

    /// What [`Block::key`] was when this was read.
    #[inline]
    pub(crate) fn key(self) -> u16 {
        self.0
    }

    /// P835: what is known of a free run of frames that begins at `start` in the block. Known are
    /// those at the end of the block that nobody has had yet.
    #[inline]
    pub(crate) fn content_from(self, start: usize) -> Content {
        match self.knows_zero() && self.is_zero_before(start + 1) {
            true => Content::Zero,
            false => Content::Any,
        }
    }

    /// What a free looks at: the type, and what is known to be zero.
    #[inline(always)]
    pub(crate) fn plain(self) -> u16 {
        self.0 & (KIND | ISOLATED | ZERO)
    }

    /// [`Place::plain`] of a block of a type that is not isolated, of which nothing is known.
    pub(crate) fn plain_of(kind: MigrateType) -> u16 {
        match kind {
            MigrateType::Isolate => !0, // that of no block: it depends on the type beneath
            _ => (kind as u16) << KIND_SHIFT,
        }
    }

    /// True if some free frames may be known to be zero.
    #[inline]
    pub(crate) fn knows_zero(self) -> bool {
        self.0 > !ZERO
    }

    /// True if frames that end at `end` would still be known to be zero when they come free, so
    /// that [`Block::forget_zero`] is to be called if they were used.
    #[inline]
    pub(crate) fn is_zero_before(self, end: usize) -> bool {
        end + usize::from(self.0 >> ZERO_SHIFT) * STEP > PAGEBLOCK_PAGES
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::page::lists::MAX_ZONES;

    const _: () = assert!(MAX_ZONES <= ABSENT as usize);

    /// Every part of a block.
    #[derive(Clone, PartialEq, Eq, Debug)]
    struct Parts {
        free: usize,
        class: u8,
        clean: bool,
        kind: MigrateType,
        isolated: bool,
        zone: u8,
        plug: u8,
        skip: bool,
        /// The first frame that is known to be zero.
        zero: usize,
    }

    impl Parts {
        fn of(block: &Block) -> Parts {
            let known = |start: &usize| block.place().content_from(*start) == Content::Zero;
            Parts {
                free: block.free(),
                class: block.class(),
                clean: block.is_clean(),
                kind: block.kind_beneath(),
                isolated: block.is_isolated(),
                zone: block.zone(),
                plug: block.plug(),
                skip: block.hints() == Hints::Skip,
                zero: (0..PAGEBLOCK_PAGES).find(known).unwrap_or(PAGEBLOCK_PAGES),
            }
        }
    }

    #[test]
    fn each_part_is_changed_and_no_other() {
        let block = Block::new();
        let mut is = Parts {
            free: 0,
            class: CLASS_FULL,
            clean: false,
            kind: MigrateType::Movable,
            isolated: false,
            zone: NO_ZONE,
            plug: NO_ZONE,
            skip: false,
            zero: PAGEBLOCK_PAGES,
        };
        let mut rng = crate::testing::Rng::new(17);
        assert_eq!(Parts::of(&block), is);
        for _ in 0..10_000 {
            match rng.below(10) {
                0 => {
                    let free = rng.below(PAGEBLOCK_PAGES + 1);
                    block.add_free(free as isize - is.free as isize);
                    is.free = free;
                }
                1 => {
                    is.class = [0, 3, 9, CLASS_PAIR, CLASS_FULL][rng.below(5)];
                    block.set_class(is.class);
                }
                2 => {
                    is.clean = rng.below(2) == 1;
                    block.set_clean(is.clean.into());
                }
                3 => {
                    is.kind = MigrateType::ALL[rng.below(MigrateType::COUNT)];
                    block.set_kind(is.kind);
                }
                4 => {
                    is.isolated = rng.below(2) == 1;
                    block.set_isolated(is.isolated.into());
                }
                5 if is.plug == NO_ZONE || is.zone == NO_ZONE => {
                    // A hole becomes part of a zone, or absent; what is absent joins its zone.
                    is.zone = match is.plug {
                        NO_ZONE => rng.below(MAX_ZONES) as u8,
                        plug => plug,
                    };
                    block.set_zone(is.zone);
                }
                6 if is.plug == NO_ZONE && rng.below(100) == 0 => {
                    is.plug = rng.below(MAX_ZONES) as u8;
                    is.zone = NO_ZONE;
                    block.set_plug(is.plug);
                }
                7 => {
                    is.skip = rng.below(2) == 1;
                    let hints = if is.skip { Hints::Skip } else { Hints::None };
                    block.set_hints(hints);
                }
                8 => {
                    let end = rng.below(PAGEBLOCK_PAGES) + 1;
                    assert_eq!(block.place().is_zero_before(end), end > is.zero);
                    assert_eq!(block.place().knows_zero(), is.zero < PAGEBLOCK_PAGES);
                    if end > is.zero {
                        block.forget_zero(end);
                        is.zero = end.next_multiple_of(64);
                    }
                }
                9 if rng.below(10) == 0 => {
                    block.set_content(Content::Zero);
                    is.zero = 0;
                }
                _ => (),
            }
            assert_eq!(Parts::of(&block), is);
            let kind = match is.isolated {
                true => MigrateType::Isolate,
                false => is.kind,
            };
            let (zone, found) = (block.place().zone_or_more(), block.place().kind());
            assert_eq!((found, block.kind()), (kind, kind));
            match is.zone {
                NO_ZONE => assert!(zone >= MAX_ZONES),
                its => assert_eq!(zone, its.into()),
            }
        }
    }
}
