//! References of a block, compound blocks (folios), frozen blocks, and a block as single pages.
//!
//! 1. **A plain block** has the references that its owner knows of ([`PageAllocator::get_ref`]).
//!    Freed with some left, it comes apart: all pages but the first are free at once (P342).
//! 2. **A folio** is a compound block, or a single page of that kind (P348). It comes free as a
//!    whole with its last reference, and anybody may take one by any of its frames
//!    ([`PageAllocator::try_get_folio`]) without having one: he gets it, or the block is gone.
//! 3. **A frozen block** has no references at all (P343): nobody can take one.
//! 4. Frames after the first have no word. The first of a block is found by its alignment: of the
//!    eleven frames that could be it, one says that it is.

use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{FrameKind, FrameWord, Order, Pfn};
use crate::platform::Platform;
use crate::report::{Caller, Misuse, Report};
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

/// One reference of a compound block or of a single page (Linux's folio). Dropped, it is given
/// back; with the last one the memory is free.
///
/// Context of a drop: as [`PageAllocator::free`], any.
pub struct Folio<'m, P: Platform> {
    pages: &'m PageAllocator<P>,
    head: Pfn,
    order: Order,
}

impl<'m, P: Platform> Folio<'m, P> {
    /// The first frame.
    pub fn head(&self) -> Pfn {
        self.head
    }

    /// It has 2^order pages (`folio_order`).
    pub fn order(&self) -> Order {
        self.order
    }

    /// Bytes (`folio_size`).
    pub fn bytes(&self) -> usize {
        self.order.bytes()
    }

    /// True if the frame is one of its.
    pub fn contains(&self, pfn: Pfn) -> bool {
        pfn.0.wrapping_sub(self.head.0) < self.order.pages()
    }

    /// Where its first byte is seen. Others may have references too: who reads and writes agrees
    /// with them.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.pages.ptr_of(self.head)
    }

    /// References there are at this moment (`folio_ref_count`); at least this one.
    pub fn references(&self) -> usize {
        self.pages.frames.get(self.head).payload() as usize
    }

    /// The reference without the handle: [`Folio::from_raw`] takes it back.
    pub fn into_raw(self) -> Pfn {
        ManuallyDrop::new(self).head
    }

    /// The handle of a reference that is known by the first frame. `None` if the frame is not the
    /// first of a folio.
    ///
    /// # Safety
    /// The caller gives up a reference of it: one that [`Folio::into_raw`] gave, or the one with
    /// which a block with `COMP` is allocated.
    pub unsafe fn from_raw(pages: &'m PageAllocator<P>, head: Pfn) -> Option<Folio<'m, P>> {
        let word = pages.frames.get(head);
        let order = word.order();
        // Made only if it is one: a handle that is dropped gives a reference back.
        word.is(FrameKind::Compound)
            .then(|| Folio { pages, head, order })
    }
}

impl<P: Platform> Clone for Folio<'_, P> {
    /// One more reference (`folio_get`).
    ///
    /// # Panics
    /// If the block was freed by who had no reference.
    fn clone(&self) -> Self {
        let more = self.pages.frames.try_get(self.head);
        assert!(more.is_some(), "a folio was freed while it had references");
        Folio { ..*self }
    }
}

impl<P: Platform> Drop for Folio<'_, P> {
    fn drop(&mut self) {
        // SAFETY: the handle's reference is given up with it.
        if let Err(misuse) = unsafe { self.pages.free(self.head, self.order) } {
            self.pages.complain(&Report {
                misuse,
                addr: self.as_ptr().addr().get(),
                owner: self.pages.owner_of(self.head),
                caller: Caller::here(),
            });
        }
    }
}

impl<P: Platform> fmt::Debug for Folio<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folio of {:?} at {:?}", self.order, self.head)
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Makes a block that was just allocated a folio, whatever its order. `None`, and nothing done,
    /// if it is no block, or has other references.
    ///
    /// # Safety
    /// The caller gives the block up: only the handle has it from now on.
    pub unsafe fn into_folio(&self, head: Pfn) -> Option<Folio<'_, P>> {
        let word = self.frames.get(head);
        let block = word.is(FrameKind::Page) || word.is(FrameKind::Compound);
        if !block || word.payload() != 1 {
            return None;
        }
        self.frames.set(head, word.compound());
        Some(Folio {
            pages: self,
            head,
            order: word.order(),
        })
    }

    /// The folio that a frame is in: its first frame and its order (`page_folio`,
    /// `compound_order`). `None` if it is in none. Who has no reference gets what is true at this
    /// moment.
    pub fn folio_of(&self, pfn: Pfn) -> Option<(Pfn, Order)> {
        let (head, word) = self.head_of(pfn)?;
        word.is(FrameKind::Compound).then_some((head, word.order()))
    }

    /// Takes a reference of the folio that a frame is in, whoever has it (`folio_try_get`). `None`
    /// if it is in none, or if the last reference was dropped. It may be another folio than the one
    /// that was there when the caller learnt of the frame: look.
    ///
    /// Context: any.
    pub fn try_get_folio(&self, pfn: Pfn) -> Option<Folio<'_, P>> {
        let (head, _) = self.folio_of(pfn)?;
        let order = self.frames.try_get(head)?.order();
        let folio = Folio {
            pages: self,
            head,
            order,
        };
        // Meanwhile a smaller one may have taken its place.
        folio.contains(pfn).then_some(folio)
    }

    /// Allocates a block without references (P343): nobody can take one, and a free looks at none.
    /// Free with [`PageAllocator::free_frozen`].
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`].
    pub fn alloc_frozen(&self, req: &PageRequest) -> Result<Pfn, AllocError> {
        let gfp = req.gfp.without(Gfp::COMP);
        let pfn = self.alloc(&PageRequest { gfp, ..*req })?;
        self.freeze(pfn, req.order);
        Ok(pfn)
    }

    /// Takes the one reference away that a plain block was allocated with.
    pub(crate) fn freeze(&self, pfn: Pfn, order: Order) {
        let word = self.frames.get(pfn);
        debug_assert!(word.is_block(FrameKind::Page, order) && word.payload() == 1);
        self.frames.set(pfn, word.with_payload(0));
    }

    /// Frees what [`PageAllocator::alloc_frozen`] gave.
    ///
    /// # Errors
    /// What is wrong with the block; it is not freed then.
    ///
    /// # Safety
    /// Nobody may use the block any more.
    pub unsafe fn free_frozen(&self, pfn: Pfn, order: Order) -> Result<(), Misuse> {
        let word = self.frames.get(pfn);
        if !word.is_block(FrameKind::Page, order) {
            return Err(self.diagnose(pfn, order));
        }
        if word.payload() != 0 {
            return Err(Misuse::WrongCall);
        }
        self.give(pfn, order);
        Ok(())
    }

    /// Makes each page of a block that is not compound an order-0 block (P347). The first keeps its
    /// references, the others have one. Of anything else nothing is changed (debug builds panic).
    pub fn split(&self, pfn: Pfn, order: Order) {
        let word = self.frames.get(pfn);
        debug_assert!(word.is_block(FrameKind::Page, order));
        if !word.is_block(FrameKind::Page, order) {
            return;
        }
        let part = word.part(Order::ZERO);
        self.frames.set(pfn, part.with_payload(word.payload()));
        for i in 1..order.pages() {
            self.frames.set(pfn.add(i), part);
        }
    }

    /// Takes one more reference of an allocated block. False if it is none, or frozen. The caller
    /// must hold a reference, or know otherwise that the last one is not dropped meanwhile.
    pub fn get_ref(&self, pfn: Pfn) -> bool {
        loop {
            let old = self.frames.get(pfn);
            let block = old.is(FrameKind::Page) || old.is(FrameKind::Compound);
            if !block || old.payload() == 0 {
                return false;
            }
            let new = old.with_payload(old.payload() + 1);
            if self.frames.replace(pfn, old, new) {
                return true;
            }
        }
    }

    /// Sets the word of a frame of a block that the caller owns: how a subsystem marks its pages.
    #[inline]
    pub fn set_word(&self, pfn: Pfn, word: FrameWord) {
        self.frames.set(pfn, word);
    }
}
