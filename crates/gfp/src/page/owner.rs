//! Whose a frame is, and why it cannot be freed: the cold side of free.

use super::PageAllocator;
use crate::frame::{FrameKind, FrameWord, Order, Pfn};
use crate::platform::Platform;
use crate::report::{Misuse, Owner};

impl<P: Platform> PageAllocator<P> {
    /// Why a block cannot be freed with this order.
    #[cold]
    pub fn diagnose(&self, pfn: Pfn, order: Order) -> Misuse {
        let word = self.frames.get(pfn);
        match word.kind() {
            FrameKind::Page | FrameKind::Compound => Misuse::WrongOrder { freed_as: order },
            FrameKind::Movable if word.order() != order => Misuse::WrongOrder { freed_as: order },
            // Freed before, while somebody held it.
            FrameKind::Cached | FrameKind::Deferred | FrameKind::Movable => Misuse::DoubleFree,
            FrameKind::Slab
            | FrameKind::LargeKmalloc
            | FrameKind::Vmalloc
            | FrameKind::DmaCoherent => Misuse::WrongCall,
            FrameKind::None if self.blocks.is_free(pfn) => Misuse::DoubleFree,
            FrameKind::None => match self.head_of(pfn) {
                Some((_, w)) if w.is(FrameKind::Cached) || w.is(FrameKind::Deferred) => {
                    Misuse::DoubleFree
                }
                Some(_) => Misuse::InteriorFree,
                None => Misuse::WildFree,
            },
        }
    }

    /// The block that a frame is a later frame of: its first frame and that frame's word.
    pub fn head_of(&self, pfn: Pfn) -> Option<(Pfn, FrameWord)> {
        (0..=Order::MAX.get())
            .filter_map(Order::new)
            .find_map(|order| {
                let head = Pfn(pfn.0 & !(order.pages() - 1));
                let word = self.frames.get(head);
                let covers = word.kind() != FrameKind::None && word.order() >= order;
                covers.then_some((head, word))
            })
    }

    /// Whose the memory of a frame is, as far as pages can tell.
    pub fn owner_of(&self, pfn: Pfn) -> Owner<'static> {
        if self.blocks.is_free(pfn) {
            return Owner::Free { pfn };
        }
        match self.head_of(pfn) {
            None => Owner::Unmanaged,
            Some((head, word)) => match word.kind() {
                FrameKind::Cached | FrameKind::Deferred => Owner::Free { pfn: head },
                FrameKind::LargeKmalloc => Owner::LargeKmalloc {
                    start: self.ptr_of(head).addr().get(),
                    size: word.order().bytes(),
                },
                FrameKind::DmaCoherent => Owner::DmaCoherent {
                    start: self.ptr_of(head).addr().get(),
                    size: word.payload() as usize,
                },
                _ => Owner::Pages {
                    pfn: head,
                    order: word.order(),
                },
            },
        }
    }
}
