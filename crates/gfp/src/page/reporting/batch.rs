//! Free blocks on their way to a reporting device and back.

use super::super::PageAllocator;
use super::super::descriptor::Content;
use super::super::free::HOLD_MOST;
use super::super::guard::ZoneGuard;
use super::super::zone::Zone;
use super::Reported;
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_PAGES, Pfn};
use crate::platform::{FrameRun, Platform};
use crate::policy::reporting::{self, CAPACITY_MOST};
use core::ops::Range;

/// The types whose blocks are reported.
pub(super) fn types() -> impl Iterator<Item = MigrateType> {
    let all = MigrateType::ALL.into_iter();
    all.filter(|kind| *kind != MigrateType::Isolate)
}

/// The free blocks of one order and type of a zone.
#[derive(Copy, Clone)]
pub(super) struct List<'p> {
    pub(super) zone: &'p Zone,
    pub(super) order: Order,
    pub(super) kind: MigrateType,
}

impl List<'_> {
    /// P521: its zone can do without a batch.
    pub(super) fn may_part(&self, capacity: usize) -> bool {
        let state = self.zone.free_state();
        let free = state.free.saturating_sub(state.free_highatomic);
        let low = self.zone.watermarks().low + self.zone.boost();
        reporting::may_part(free, low, capacity, self.order.get())
    }
}

/// How far a round has come in a list: highest address first.
pub(super) struct Cursor {
    /// Shards that are left.
    pub(super) shards: usize,
    /// In the last of them, blocks that are left; `None`: all.
    pub(super) below: Option<usize>,
}

/// Free blocks that are out of their zone. Dropped, they are back in it.
pub(super) struct Batch<'p, P: Platform> {
    pages: &'p PageAllocator<P>,
    list: List<'p>,
    blocks: [FrameRun; CAPACITY_MOST],
    len: usize,
    pub(super) outcome: Reported,
}

impl<'p, P: Platform> Batch<'p, P> {
    pub(super) fn new(pages: &'p PageAllocator<P>, list: List<'p>) -> Batch<'p, P> {
        let none = FrameRun {
            first: Pfn(0),
            pages: 0,
        };
        Batch {
            pages,
            list,
            blocks: [none; CAPACITY_MOST],
            len: 0,
            // Until the device says otherwise, be it that it panics.
            outcome: Reported::Refused,
        }
    }

    pub(super) fn blocks(&self) -> &[FrameRun] {
        &self.blocks[..self.len]
    }

    /// Takes up to `capacity` blocks that wait.
    pub(super) fn fill(&mut self, capacity: usize, cursor: &mut Cursor) {
        let (pages, list) = (self.pages, self.list);
        while self.len < capacity && cursor.shards != 0 {
            let shard = &list.zone.shards()[cursor.shards - 1];
            let local = pages.enter_again();
            let mut guard = list.zone.lock_shard(&pages.blocks, &local, shard);
            let below = cursor.below.unwrap_or(shard.nr_blocks);
            let free = &mut self.blocks[self.len..capacity];
            let (taken, left) = guard.take_waiting(&list, below, free);
            self.len += taken;
            cursor.below = left;
            cursor.shards -= usize::from(left.is_none());
        }
    }
}

impl<P: Platform> Drop for Batch<'_, P> {
    fn drop(&mut self) {
        let (pages, list) = (self.pages, self.list);
        for block in self.blocks() {
            // The device may have spoilt it; where all free memory is to be zero that is mended.
            let zero = pages.clear_freed(block.first, list.order).is_cached_zero();
            let content = match zero {
                true => Content::Zero,
                false => Content::Any,
            };
            let local = pages.enter_again();
            let shard = pages.shard_of(list.zone, block.first);
            let mut guard = list.zone.lock_shard(&pages.blocks, &local, shard);
            for half in (0..block.pages).step_by(PAGEBLOCK_PAGES) {
                guard.put_reported(block.first.add(half), content, self.outcome);
            }
        }
        if self.len != 0 {
            list.zone.hope_again();
        }
    }
}

impl ZoneGuard<'_> {
    /// Takes blocks of a list that wait and lie before block `below` of the shard. They are hidden
    /// until [`ZoneGuard::put_reported`]. Returns how many, and before which to go on if some are
    /// left.
    fn take_waiting(
        &mut self,
        list: &List<'_>,
        mut below: usize,
        out: &mut [FrameRun],
    ) -> (usize, Option<usize>) {
        let (order, mut taken) = (list.order, 0);
        for _ in 0..HOLD_MOST {
            let Some(to) = out.get_mut(taken) else { break };
            let Some(member) = self.shard.dirty().last_below(below) else {
                return (taken, None);
            };
            below = member;
            let block = member + self.shard.first_block;
            let b = &self.blocks.blocks[block];
            // The class of what is wholly free is the order of the free block.
            if b.kind() != list.kind || b.class() != order.get() {
                continue;
            }
            self.hide((order.pages() / PAGEBLOCK_PAGES) as isize);
            *to = FrameRun {
                first: self.take_from(block, order, 1).pfn,
                pages: order.pages(),
            };
            taken += 1;
        }
        (taken, Some(below))
    }

    /// Has blocks that were reported wait again.
    pub(super) fn forget_reported(&mut self, blocks: Range<usize>) {
        for block in blocks {
            let b = &self.blocks.blocks[block];
            if b.zone() != self.zone.id || !b.is_clean() {
                continue;
            }
            b.set_clean(0);
            // What is isolated waits at the end of that.
            if !b.is_isolated() {
                self.note_dirty(block);
            }
        }
    }
}
