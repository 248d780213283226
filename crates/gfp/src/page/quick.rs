//! What most requests and frees take: one block from, or to, a list of this CPU.
//!
//! 1. **Allocation.** Where each CPU has the list is read from a table of the node
//!    ([`ZoneList::first`](super::lists::ZoneList::first)) and one of orders and types. No
//!    watermark is looked at: the block was paid for when the list was filled.
//! 2. **Free.** A block goes to the list that is usual for its order on this CPU
//!    ([`stock`](crate::sync::stock)), if its pageblock is of the zone and type which that list is
//!    for. Else the long way looks into the tables, and says what is usual from now on.
//! 3. **Both are one operation on a stock**, the platform's ([`Platform::take_at_hand`],
//!    [`Platform::put_at_hand`]), with no section around it: what comes before it holds on every
//!    CPU, the pageblock's type is looked at inside, and what follows is done with a block that is
//!    the caller's already. Until then its word says that it is cached, and who frees it meanwhile
//!    is told so.
//! 4. **Everything else is left to the long way**, which looks anew: nothing was changed then. A
//!    list that is empty, or holds as many as it may; a request for another node; a zone that is
//!    not this node's; orders and types that are not cached. Each of the other ways is a call at
//!    the end, so that this one saves no registers.
//! 5. What is done here is counted by the list itself.

use super::cache::List;
use super::relief::Relief;
use super::whole::first_rights;
use super::{BootConfig, PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::{Gfp, MigrateType};
use crate::frame::{FrameKind, FrameWord, MAX_NODES, Order, Pfn};
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::stock::{At, Put};

/// Why no block was taken.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Missed {
    /// No list takes part, or its list is empty.
    NoneThere,
    /// What was there was freed twice at once, and has another owner by now.
    Twice(Pfn),
}

/// What [`PageAllocator`] has of that name.
pub(super) fn freed_at_once(config: &BootConfig) -> [FrameWord; 16] {
    core::array::from_fn(|order| match Order::new(order as u8) {
        Some(order) if List::of(order, MigrateType::Movable).is_some() && !config.init_on_free => {
            FrameWord::new(FrameKind::Page, order, 1)
        }
        _ => FrameWord::NEVER,
    })
}

impl<P: Platform> PageAllocator<P> {
    /// A plain block that is at hand, for a request that asks for nothing else.
    ///
    /// # Errors
    /// What [`PageAllocator::alloc_missed`] wants to know.
    #[inline(always)]
    pub(crate) fn alloc_at_hand(&self, req: &PageRequest) -> Result<Pfn, Missed> {
        if req.is_special() || self.needs_more(req.gfp) {
            return Err(Missed::NoneThere);
        }
        let pfn = self.take_quick(req, MigrateType::Unmovable)?;
        let word = FrameWord::new(FrameKind::Page, req.order, 1);
        self.frames.set(pfn, word);
        Ok(pfn)
    }

    /// [`PageAllocator::alloc_with`] after [`PageAllocator::alloc_at_hand`] had nothing. A call at
    /// the end, so that the common way needs no stack.
    ///
    /// # Errors
    /// As there.
    #[inline(never)]
    pub(crate) fn alloc_missed<R>(
        &self,
        req: PageRequest,
        missed: Missed,
        relief: &R,
    ) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        if let Missed::Twice(pfn) = missed {
            self.complain_twice(pfn);
        } else if req.is_special() || self.needs_more(req.gfp) {
            let mut req = req;
            req.gfp = self.admit(&req)?;
            match self.take_quick(&req, self.mobility(req.gfp)) {
                Ok(pfn) => {
                    self.hand_out(pfn, &req);
                    return Ok(pfn);
                }
                Err(Missed::Twice(pfn)) => self.complain_twice(pfn),
                Err(Missed::NoneThere) => (),
            }
            return self.alloc_long(&req, relief);
        }
        self.alloc_long(&req, relief)
    }

    /// Serves a request that was looked at, where no block is at hand.
    fn alloc_long<R>(&self, req: &PageRequest, relief: &R) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let local = Local::enter(&self.platform)?;
        let found = self.alloc_local(&local, req, first_rights(req.gfp));
        local.leave();
        match found {
            Some(pfn) => {
                self.hand_out(pfn, req);
                Ok(pfn)
            }
            None => self.alloc_slow(req, relief),
        }
    }

    /// True if a block for such a request needs more than the word of a plain block.
    #[inline(always)]
    fn needs_more(&self, gfp: Gfp) -> bool {
        (gfp | self.init).intersects(Gfp::ZERO.with(Gfp::COMP))
    }

    /// Takes a block of a type for a request that was looked at, from the list that is first. Its
    /// words are to be set.
    #[inline(always)]
    fn take_quick(&self, req: &PageRequest, kind: MigrateType) -> Result<Pfn, Missed> {
        // SAFETY: [INV-PCPU-4] they were made at boot; the place is that of a list.
        let take = |at| unsafe { self.platform.take_at_hand(&self.cpus, at) };
        self.take_by(req, kind, take)
    }

    /// [`PageAllocator::take_quick`] for who is inside a section.
    #[inline(always)]
    pub(super) fn take_inside(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        kind: MigrateType,
    ) -> Option<Pfn> {
        // SAFETY: [INV-PCPU-1] the section's CPU; [INV-PCPU-4] as above.
        let take = |at| unsafe { self.cpus.take(local.cpu(), at) };
        let taken = self.take_by(req, kind, take);
        if let Err(Missed::Twice(pfn)) = taken {
            self.complain_twice(pfn);
        }
        taken.ok()
    }

    #[inline(always)]
    fn take_by(
        &self,
        req: &PageRequest,
        kind: MigrateType,
        take: impl FnOnce(At) -> Option<u32>,
    ) -> Result<Pfn, Missed> {
        if req.place.is_some() {
            return Err(Missed::NoneThere);
        }
        // The platform's nodes are below `MAX_NODES`: a mask costs less than a look.
        let node = usize::from(self.platform.node().0) % MAX_NODES;
        let lists = self.lists[node].first(req.gfp);
        let at = List::place_of(req.order, kind, lists).somewhere();
        let Some(frame) = at.and_then(take) else {
            return Err(Missed::NoneThere);
        };
        let pfn = Pfn(self.frames.base().0 + frame as usize);
        // SAFETY: [INV-PAGE-3] what is in a list is a frame of the table.
        let word = unsafe { self.frames.word_at(frame) }.load(Relaxed);
        match FrameWord::from_bits(word).is_block(FrameKind::Cached, req.order) {
            true => Ok(pfn),
            false => Err(Missed::Twice(pfn)),
        }
    }

    /// Frees a block that has one reference and needs nothing else, as it is, into the list that is
    /// usual; false, and nothing done, if it is not such a block or that list does not take it.
    #[inline(always)]
    pub(super) fn put_quick(&self, pfn: Pfn, order: Order) -> bool {
        let Some(put) = self.put_of(pfn, order) else {
            return false;
        };
        let now = FrameWord::from_bits(put.unmarked);
        if now.unmarked() != self.freed_at_once[order.index() & 15] {
            return false;
        }
        // SAFETY: [INV-PCPU-4] they were made at boot. The word is that of the caller's block.
        unsafe { self.platform.put_at_hand(&self.cpus, put) }
    }

    /// What is to be put for a block; `None` outside of the frame table. A frame whose word is not
    /// there yet is in no zone: no list is for its key, whatever is read as its word.
    #[inline(always)]
    fn put_of(&self, pfn: Pfn, order: Order) -> Option<Put<'_>> {
        let frame = self.frames.index_of_any(pfn)?;
        // SAFETY: it is one of the table.
        let word = unsafe { self.frames.word_at(frame) };
        Some(Put {
            hint: order.index() & 15,
            // SAFETY: [INV-PAGE-3] a frame of the table.
            key: unsafe { self.blocks.key_at(frame) },
            number: frame,
            word,
            // Acquire: as in `FrameTable::get_acquire`.
            unmarked: word.load(Acquire),
            marked: FrameWord::new(FrameKind::Cached, order, 0).bits(),
        })
    }

    /// Puts a block that nobody owns into the list that is usual, as it is, not cleared; false, and
    /// nothing done, if that list does not take it.
    #[inline(always)]
    pub(super) fn put_inside(&self, local: &Local<'_, P>, pfn: Pfn, order: Order) -> bool {
        let Some(put) = self.put_of(pfn, order) else {
            return false;
        };
        // SAFETY: [INV-PCPU-1] the section's CPU.
        unsafe { self.cpus.put(local.cpu(), put) }
    }

    /// From now on blocks of the order from pageblocks with a key go to the list at once, on the
    /// section's CPU. The list is that of the key, for ever.
    #[inline]
    pub(super) fn note_usual(&self, local: &Local<'_, P>, key: u16, list: At, order: Order) {
        // SAFETY: [INV-PCPU-2] null, or written and there.
        let shelf = unsafe { self.cpus.of(local.cpu()).as_ref() };
        if let Some(shelf) = shelf {
            shelf.note(order.index(), key, list);
        }
    }
}
