//! One word a frame.

use super::{Order, Pfn, PhysAddr};
use crate::sync::Carved;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
///
/// ```text
///   base                          ready                            len
///   | words, of whatever kind      | what the memory held before    |
///   +------------------------------+--------------------------------+
///     read and changed               seen by nobody: as outside
/// ```
///
/// The border moves up as memory is taken in, and never back; it does not cut a block of the
/// largest order.
pub struct FrameTable {
    base: Pfn,
    words: Carved<AtomicU64>,
    /// Words that were cleared, from the first on: at most as many as there are.
    ready: AtomicUsize,
}

impl FrameTable {
    /// A table over `words.len()` frames that start at `base`, of which those before `ready` are
    /// there: their words read 0, and no more are than there are words. What the others read does
    /// not matter.
    pub(crate) fn new(base: Pfn, words: Carved<AtomicU64>, ready: usize) -> FrameTable {
        debug_assert!(ready <= words.len());
        let ready = AtomicUsize::new(ready.min(words.len()));
        FrameTable { base, words, ready }
    }

    /// First frame that the table covers.
    pub fn base(&self) -> Pfn {
        self.base
    }

    /// Frames that the table covers, those whose words are not there yet included.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// True if the table covers no frame.
    pub fn is_empty(&self) -> bool {
        self.words.len() == 0
    }

    /// The first frame whose word is not there yet, nor that of any frame behind it.
    #[inline]
    pub(crate) fn border(&self) -> Pfn {
        // Relaxed: no word is read by it.
        self.base.add(self.ready.load(Ordering::Relaxed))
    }

    /// Clears the words of all frames before `end`, a multiple of the largest order, or up to the
    /// end of the table; they are there then. Those that were there stay as they are.
    ///
    /// Only one CPU at a time: who holds the lock of plugging ([INV-PAGE-4]).
    pub(crate) fn clear_up_to(&self, end: Pfn) {
        // Relaxed: only who calls this writes it.
        let ready = self.ready.load(Ordering::Relaxed);
        let end = end.0.saturating_sub(self.base.0).min(self.words.len());
        if end <= ready {
            return;
        }
        // Relaxed, and no plain stores: who saw the border move may read one of them too early.
        let (lines, last) = self.words[ready..end].as_chunks::<8>();
        for line in lines {
            // A line of the cache at a time, in a row: a store for each and little else.
            line.iter()
                .for_each(|word| word.store(0, Ordering::Relaxed));
        }
        last.iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        // Release: pairs with the Acquire in `replace`.
        self.ready.store(end, Ordering::Release);
    }

    /// The frame's index in this table, `None` outside of it, and where no words are yet.
    #[inline]
    pub fn index(&self, pfn: Pfn) -> Option<usize> {
        self.index_before(pfn, self.ready.load(Ordering::Relaxed))
    }

    /// The index of a frame that may have no word yet.
    #[inline(always)]
    pub(crate) fn index_of_any(&self, pfn: Pfn) -> Option<u32> {
        self.index_before(pfn, self.words.len()).map(|i| i as u32)
    }

    #[inline(always)]
    fn index_before(&self, pfn: Pfn, end: usize) -> Option<usize> {
        let index = pfn.0.wrapping_sub(self.base.0);
        (index < end).then_some(index)
    }

    /// The place of the word at an index, if it is below `ready`, which was read of the border.
    #[inline(always)]
    fn word(&self, index: usize, ready: usize) -> Option<&AtomicU64> {
        // SAFETY: [INV-PAGE-4] no more words are ready than there are.
        (index < ready).then(|| unsafe { self.words.get_unchecked(index) })
    }

    /// The word of a frame; [`FrameWord::NONE`] outside of the table.
    ///
    /// `Relaxed`: who frees or looks up an address got that address from the owner by a way that
    /// already orders it; a wild address may read anything and is refused by what it reads.
    #[inline]
    pub fn get(&self, pfn: Pfn) -> FrameWord {
        self.get_at(pfn.0.wrapping_sub(self.base.0))
    }

    /// [`FrameTable::get`] of a frame that somebody has or had: it has a word.
    #[inline(always)]
    pub(crate) fn owned(&self, pfn: Pfn) -> FrameWord {
        self.owned_at(pfn.0.wrapping_sub(self.base.0))
    }

    /// [`FrameTable::get_acquire`] of a frame that has a word.
    #[inline(always)]
    pub(crate) fn owned_acquire(&self, pfn: Pfn) -> FrameWord {
        debug_assert!(self.index(pfn).is_some());
        match self.words.get(pfn.0.wrapping_sub(self.base.0)) {
            Some(word) => FrameWord(word.load(Ordering::Acquire)),
            None => FrameWord::NONE,
        }
    }

    /// [`FrameTable::owned`] by the frame's index.
    #[inline(always)]
    pub(crate) fn owned_at(&self, index: usize) -> FrameWord {
        debug_assert!(index < self.ready.load(Ordering::Relaxed));
        // The number of all words never changes: the compiler need not read it twice.
        match self.words.get(index) {
            Some(word) => FrameWord(word.load(Ordering::Relaxed)),
            None => FrameWord::NONE,
        }
    }

    /// [`FrameTable::get`] by the frame's index; of any number.
    #[inline(always)]
    pub(crate) fn get_at(&self, index: usize) -> FrameWord {
        // Relaxed, the border too: Acquire would keep the compiler from what it does to the fast
        // paths. Who changes a word by what is read here uses `replace`.
        match self.word(index, self.ready.load(Ordering::Relaxed)) {
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
        // Relaxed, the border, as in `get_at`.
        let index = pfn.0.wrapping_sub(self.base.0);
        match self.word(index, self.ready.load(Ordering::Relaxed)) {
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

    /// The places of the words of frames that the caller owns and that follow each other, by the
    /// index of the first; of none if they are not all in the table.
    #[inline]
    pub(crate) fn owned_words(&self, first: u32, frames: usize) -> &[AtomicU64] {
        let all = self.words.get(first as usize..);
        all.and_then(|words| words.get(..frames)).unwrap_or(&[])
    }

    /// The place of the word of a frame that the caller owns, by the frame's index.
    #[inline]
    pub(crate) fn owned_word(&self, index: u32) -> Option<&AtomicU64> {
        self.words.get(index as usize)
    }

    /// Sets the word of a frame that the caller owns. Outside of the table nothing happens.
    #[inline]
    pub fn set(&self, pfn: Pfn, word: FrameWord) {
        debug_assert!(self.index(pfn).is_some());
        if let Some(w) = self.words.get(pfn.0.wrapping_sub(self.base.0)) {
            w.store(word.0, Ordering::Relaxed);
        }
    }

    /// Changes the word from `old` to `new`; false if it was not `old`. `AcqRel`: pairs with itself
    /// and with [`FrameTable::get_acquire`].
    #[inline]
    pub fn replace(&self, pfn: Pfn, old: FrameWord, new: FrameWord) -> bool {
        // Acquire: pairs with the Release in `clear_up_to`: nothing is replaced before it is
        // cleared.
        let index = pfn.0.wrapping_sub(self.base.0);
        match self.word(index, self.ready.load(Ordering::Acquire)) {
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
