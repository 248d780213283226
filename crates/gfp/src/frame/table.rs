//! One word a frame.

use super::{Order, Pfn, PhysAddr};
use crate::sync::Carved;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What a frame is to its owner.
///
/// ```text
///   63                                  16 15   9   8   7    4 3    0
///  +--------------------------------------+------+-----+------+------+
///  | payload: 48 bits                     |   0  | res | order| kind |
///  +--------------------------------------+------+-----+------+------+
/// ```
///
/// `res`, of `Page` and `Compound`: the block came from what is kept for who frees memory (P266).
///
/// | kind | on which frames | payload | set by | next |
/// |---|---|---|---|---|
/// | `None` | free, hole, reserved, or a later frame of a block | 0 | boot, free | any |
/// | `Cached` | first frame of a block in a CPU's cache | 1: it is zero | cache | `Page`, `None` |
/// | `Page` | first frame of an allocated block | references; 0: frozen | page allocator | all |
/// | `Compound` | the same, with `__GFP_COMP` | references, `refs.rs` | page allocator | all |
/// | `Slab` | every frame of a slab | physical address of its descriptor | slab | `Page` |
/// | `LargeKmalloc` | first frame of a large kmalloc block | 0 | slab | `Page` |
/// | `Vmalloc` | every frame of a vmalloc area | page number in the window | vmalloc | `Page` |
/// | `DmaCoherent` | first frame of a block for a device | bytes asked for | dma | `Page` |
/// | `Deferred` | first frame of a block freed inside the allocator | next + 1 | free | `None` |
/// | `Movable` | first frame of a block that its owner can move | `movable.rs` | owner | `Page` |
///
/// A frame whose word is `None` and whose bitmap bit says "not free" is a later frame of an
/// allocated block, or was never given to the allocator: freeing it is an error in both cases.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// Not the first frame of anything.
    None = 0,
    /// In a per-CPU cache.
    Cached = 1,
    /// First frame of an allocated block.
    Page = 2,
    /// First frame of an allocated compound block.
    Compound = 3,
    /// Part of a slab.
    Slab = 4,
    /// First frame of a large kmalloc block.
    LargeKmalloc = 5,
    /// Part of a vmalloc area.
    Vmalloc = 6,
    /// First frame of a block whose free was put off.
    Deferred = 7,
    /// First frame of a block of coherent memory.
    DmaCoherent = 8,
    /// First frame of an allocated block whose owner can move it.
    Movable = 9,
}

impl FrameKind {
    const fn from_low(bits: u64) -> FrameKind {
        match bits & 0xf {
            1 => FrameKind::Cached,
            2 => FrameKind::Page,
            3 => FrameKind::Compound,
            4 => FrameKind::Slab,
            5 => FrameKind::LargeKmalloc,
            6 => FrameKind::Vmalloc,
            7 => FrameKind::Deferred,
            8 => FrameKind::DmaCoherent,
            9 => FrameKind::Movable,
            _ => FrameKind::None,
        }
    }
}

/// The mark of [`FrameWord::from_reserve`].
const RESERVE: u64 = 1 << 8;

/// The decoded word of one frame.
#[derive(Copy, Clone, PartialEq, Eq)]
#[repr(transparent)]
pub struct FrameWord(u64);

impl FrameWord {
    /// The word of a frame that is not the first of anything.
    pub const NONE: FrameWord = FrameWord(0);

    /// A word that no frame has, of whatever order: its kind does not exist.
    pub(crate) const NEVER: FrameWord = FrameWord(0xf);

    /// The word that [`FrameWord::bits`] was asked of.
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> FrameWord {
        FrameWord(bits)
    }

    /// The word as it is in the table.
    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Builds a word. Only the low 48 bits of `payload` are kept; more is a bug of the caller.
    #[inline]
    pub const fn new(kind: FrameKind, order: Order, payload: u64) -> FrameWord {
        debug_assert!(payload >> 48 == 0);
        FrameWord(payload << 16 | (order.get() as u64) << 4 | kind as u64)
    }

    /// What the frame is.
    #[inline]
    pub const fn kind(self) -> FrameKind {
        FrameKind::from_low(self.0)
    }

    /// True if the frame is of this kind; cheaper than comparing [`FrameWord::kind`].
    #[inline]
    pub const fn is(self, kind: FrameKind) -> bool {
        self.0 & 0xf == kind as u64
    }

    /// True if the frame is of this kind and order.
    #[inline]
    pub const fn is_block(self, kind: FrameKind, order: Order) -> bool {
        self.0 & 0xff == ((order.get() as u64) << 4 | kind as u64)
    }

    /// The word without the mark of [`FrameWord::from_reserve`].
    #[inline]
    pub(crate) const fn unmarked(self) -> FrameWord {
        FrameWord(self.0 & !RESERVE)
    }

    /// The order of the block that this frame is the first of.
    #[inline]
    pub const fn order(self) -> Order {
        match Order::new((self.0 >> 4 & 0xf) as u8) {
            Some(order) => order,
            None => Order::ZERO,
        }
    }

    /// The same word with another payload, at most 48 bits.
    #[inline]
    pub const fn with_payload(self, payload: u64) -> FrameWord {
        debug_assert!(payload >> 48 == 0);
        FrameWord(payload << 16 | self.0 & 0xffff)
    }

    /// The word of a block in a per-CPU cache that is known to read as zero.
    pub(crate) const fn cached_zero(order: Order) -> FrameWord {
        FrameWord::new(FrameKind::Cached, order, 1)
    }

    /// True if this is [`FrameWord::cached_zero`], of any order.
    #[inline]
    pub(crate) const fn is_cached_zero(self) -> bool {
        self.0 & (1 << 16 | 0xf) == 1 << 16 | FrameKind::Cached as u64
    }

    /// P266: the same block, marked as given without a look at the watermarks.
    pub const fn from_reserve(self) -> FrameWord {
        FrameWord(self.0 | RESERVE)
    }

    /// P266: the block was given without a look at the watermarks.
    pub const fn is_from_reserve(self) -> bool {
        self.0 & RESERVE != 0
    }

    /// The word of the same block as a compound one with one reference.
    pub(crate) const fn compound(self) -> FrameWord {
        FrameWord(FrameWord::new(FrameKind::Compound, self.order(), 1).0 | self.0 & RESERVE)
    }

    /// The word of a part of this block, of its own order and with one reference.
    pub(crate) const fn part(self, order: Order) -> FrameWord {
        FrameWord(FrameWord::new(FrameKind::Page, order, 1).0 | self.0 & RESERVE)
    }

    /// Meaning depends on the kind.
    #[inline]
    pub const fn payload(self) -> u64 {
        self.0 >> 16
    }

    /// The payload as a physical address.
    #[inline]
    pub const fn phys(self) -> PhysAddr {
        PhysAddr(self.0 >> 16)
    }
}

/// The words of all frames of a machine, from its first to its last, holes included.
pub struct FrameTable {
    base: Pfn,
    words: Carved<AtomicU64>,
}

impl FrameTable {
    /// A table over `words.len()` frames that start at `base`; all words must read 0.
    pub(crate) fn new(base: Pfn, words: Carved<AtomicU64>) -> FrameTable {
        FrameTable { base, words }
    }

    /// First frame that the table covers.
    pub fn base(&self) -> Pfn {
        self.base
    }

    /// Frames that the table covers.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// True if the table covers no frame.
    pub fn is_empty(&self) -> bool {
        self.words.len() == 0
    }

    /// The frame's index in this table, `None` outside of it.
    #[inline]
    pub fn index(&self, pfn: Pfn) -> Option<usize> {
        let index = pfn.0.wrapping_sub(self.base.0);
        if index < self.words.len() {
            Some(index)
        } else {
            None
        }
    }

    /// The word of a frame; [`FrameWord::NONE`] outside of the table.
    ///
    /// `Relaxed`: who frees or looks up an address got that address from the owner by a way that
    /// already orders it; a wild address may read anything and is refused by what it reads.
    #[inline]
    pub fn get(&self, pfn: Pfn) -> FrameWord {
        match self.words.get(pfn.0.wrapping_sub(self.base.0)) {
            Some(word) => FrameWord(word.load(Ordering::Relaxed)),
            None => FrameWord::NONE,
        }
    }

    /// The word of a frame, read by who may be about to free its memory.
    ///
    /// `Acquire`: pairs with [`FrameTable::replace`], by which others dropped their references;
    /// what they did with the memory comes before its next use.
    #[inline]
    pub fn get_acquire(&self, pfn: Pfn) -> FrameWord {
        match self.words.get(pfn.0.wrapping_sub(self.base.0)) {
            Some(word) => FrameWord(word.load(Ordering::Acquire)),
            None => FrameWord::NONE,
        }
    }

    /// The place of a frame's word, by the frame's index.
    ///
    /// # Safety
    /// The index is that of a frame of the table.
    #[inline(always)]
    pub(crate) unsafe fn word_at(&self, index: u32) -> &AtomicU64 {
        debug_assert!((index as usize) < self.words.len());
        // SAFETY: promised by the caller.
        unsafe { self.words.get_unchecked(index as usize) }
    }

    /// Sets the word of a frame that the caller owns. Outside of the table nothing happens.
    #[inline]
    pub fn set(&self, pfn: Pfn, word: FrameWord) {
        debug_assert!(self.index(pfn).is_some());
        if let Some(w) = self.words.get(pfn.0.wrapping_sub(self.base.0)) {
            w.store(word.0, Ordering::Relaxed);
        }
    }

    /// [`FrameTable::set`] by the index of the frame.
    #[inline]
    pub(crate) fn set_at(&self, index: u32, word: FrameWord) {
        debug_assert!((index as usize) < self.words.len());
        if let Some(w) = self.words.get(index as usize) {
            w.store(word.0, Ordering::Relaxed);
        }
    }

    /// Changes the word from `old` to `new`; false if it was not `old`. `AcqRel`: pairs with itself
    /// and with [`FrameTable::get_acquire`].
    #[inline]
    pub fn replace(&self, pfn: Pfn, old: FrameWord, new: FrameWord) -> bool {
        match self.words.get(pfn.0.wrapping_sub(self.base.0)) {
            Some(w) => w
                .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_keeps_kind_order_and_payload() {
        for kind in [FrameKind::Page, FrameKind::Slab, FrameKind::Vmalloc] {
            for order in 0..=10 {
                let order = Order::new(order).unwrap();
                let word = FrameWord::new(kind, order, 0xffff_ffff_fff0);
                assert_eq!((word.kind(), word.order()), (kind, order));
                assert_eq!(word.phys(), PhysAddr(0xffff_ffff_fff0));
                assert!(word.is_block(kind, order) && word.is(kind));
                assert!(!word.is(FrameKind::Cached));
                let marked = word.from_reserve();
                assert!(marked.is_from_reserve() && !word.is_from_reserve());
                assert!(marked.is_block(kind, order) && marked.phys() == word.phys());
                let other = marked.with_payload(7);
                assert!(other.is_from_reserve() && other.payload() == 7);
            }
        }
        assert_eq!(FrameWord::NONE.kind(), FrameKind::None);
        for order in (0..=10).filter_map(Order::new) {
            let zero = FrameWord::cached_zero(order);
            assert!(zero.is_block(FrameKind::Cached, order) && zero.is_cached_zero());
            assert!(!FrameWord::new(FrameKind::Cached, order, 0).is_cached_zero());
            assert!(!FrameWord::new(FrameKind::Page, order, 1).is_cached_zero());
        }
    }
}
