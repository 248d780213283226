//! Pages that are known to read as zero, so that nothing is cleared twice (P351, P835).
//!
//! 1. **Where it is known.** At boot, and after the platform has taken a pageblock back
//!    ([`Platform::discard`]), all of a block reads as zero. Its descriptor says from which frame
//!    on free frames are still so; what comes free moves that border behind itself. Allocation
//!    prefers low addresses, so what nobody has had yet lies at the end.
//! 2. **On the way.** A block that is taken from there is marked in its frame's word, also while it
//!    is in a CPU's cache ([`FrameWord::cached_zero`]). Whoever hands it out looks there.
//! 3. **A free** clears the mark; with `init_on_free` it clears the memory, and the mark stays
//!    true: then all free memory is known to be zero, and no border moves.
//! 4. **What is not known is cleared**, so a mark that got lost costs time only.

use super::PageAllocator;
use super::descriptor::Content;
use super::guard::{Taken, ZoneGuard};
use super::zone::Zone;
use crate::flags::Gfp;
use crate::frame::{FrameKind, FrameWord, Order, PAGE_SHIFT, Pfn};
use crate::platform::Platform;

/// The word of a block that goes to a CPU's cache.
#[inline]
pub(super) fn cached(order: Order, content: Content) -> FrameWord {
    FrameWord::new(FrameKind::Cached, order, (content == Content::Zero) as u64)
}

impl<P: Platform> PageAllocator<P> {
    /// P351: `ZERO`, or `init_on_alloc`.
    #[inline]
    pub(super) fn wants_zero(&self, gfp: Gfp) -> bool {
        (gfp | self.init).contains(Gfp::ZERO)
    }

    /// Clears a block.
    ///
    /// # Safety
    /// The block is the caller's alone, and the direct map shows it.
    #[cold]
    pub(super) unsafe fn clear(&self, pfn: Pfn, order: Order) {
        // SAFETY: promised by the caller.
        unsafe { self.ptr_of(pfn).as_ptr().write_bytes(0, order.bytes()) };
    }

    /// Marks a block that was just taken from its zone if it is known to be zero, for who hands it
    /// out. Answers its frame.
    #[inline]
    pub(super) fn note_content(&self, taken: Taken, order: Order) -> Pfn {
        if taken.content == Content::Zero {
            self.frames.set(taken.pfn, FrameWord::cached_zero(order));
        }
        taken.pfn
    }

    /// P351: clears a block that the caller just freed, if the configuration says so. Answers the
    /// word that it has in a CPU's cache.
    #[inline]
    pub(super) fn clear_freed(&self, pfn: Pfn, order: Order) -> FrameWord {
        if self.config.init_on_free {
            return self.clear_freed_now(pfn, order);
        }
        cached(order, Content::Any)
    }

    #[cold]
    #[inline(never)]
    fn clear_freed_now(&self, pfn: Pfn, order: Order) -> FrameWord {
        let zone = self.blocks.zone_of(pfn);
        if !zone.is_some_and(|zone| self.zones[zone].clears_freed) {
            return cached(order, Content::Any);
        }
        // SAFETY: [INV-PAGE-1] the block is free, and in no list yet; its zone is shown.
        unsafe { self.clear(pfn, order) };
        cached(order, Content::Zero)
    }

    /// Gives the memory of a wholly free pageblock to the platform.
    pub(super) fn discard(&self, pfn: Pfn) -> Content {
        if self.platform.discard(pfn, Order::PAGEBLOCK.pages()) {
            return Content::Zero;
        }
        // The platform may have spoilt it; where all free memory is to be zero that is mended.
        match self.clear_freed(pfn, Order::PAGEBLOCK).is_cached_zero() {
            true => Content::Zero,
            false => Content::Any,
        }
    }

    /// What is known of frames that become part of a zone; they are cleared first if all its free
    /// memory is to be zero.
    pub(super) fn content_of_new(&self, zone: &Zone, start: Pfn, end: Pfn) -> Content {
        if !self.config.memory_is_zero {
            if !zone.clears_freed || end <= start {
                return Content::Any;
            }
            let bytes = (end.0 - start.0) << PAGE_SHIFT;
            // SAFETY: [INV-PAGE-2] nobody has these frames yet, and the zone is shown.
            unsafe { self.ptr_of(start).as_ptr().write_bytes(0, bytes) };
        }
        Content::Zero
    }
}

impl ZoneGuard<'_> {
    /// Notes what is known of frames that come free, and of all that comes free in their pageblocks
    /// for the first time.
    pub(super) fn set_content(&self, pfn: Pfn, order: Order, content: Content) {
        let first = self.blocks.of(pfn);
        let last = self.blocks.of(pfn.add(order.pages() - 1));
        for block in first.into_iter().chain(last.filter(|_| last != first)) {
            self.blocks.blocks[block].set_content(content);
        }
    }

    /// Notes that frames of a pageblock that end at `end` were used. No harm is done if they are
    /// free.
    #[cold]
    #[inline(never)]
    pub(super) fn forget_zero(&self, block: usize, end: usize) {
        let block = &self.blocks.blocks[block];
        if block.place().is_zero_before(end) && !self.zone.clears_freed {
            block.forget_zero(end);
        }
    }
}
