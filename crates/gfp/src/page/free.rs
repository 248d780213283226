//! Free: to this CPU's cache, to the zone, and put off from inside the allocator.

use super::PageAllocator;
use super::cache::{Front, List, ZoneCache};
use super::reporting::Reported;
use super::row::Return;
use super::shard::Shard;
use super::zone::Zone;
use crate::frame::{Dropped, FrameKind, FrameWord, Order, PAGEBLOCK_ORDER, Pfn};
use crate::platform::Platform;
use crate::report::{Caller, Misuse, Report};
use crate::sync::Local;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Pageblocks that one free reports at most. A flush seldom gives more than 64 blocks back, each of
/// which can complete one, so reporting keeps up; and after a boot on memory that is not zero, when
/// all of it waits to be reported, no single free has to do that.
const REPORT_MOST: usize = 64;

/// Blocks that go in or out under one hold of a shard's lock, at most: what others wait for is
/// bounded (P805, P834).
pub(super) const HOLD_MOST: usize = 63;

const _: () = assert!(HOLD_MOST < u64::BITS as usize, "a bit for each block");

impl<P: Platform> PageAllocator<P> {
    /// Frees a block: drops one reference, and with the last the memory returns (P340, P342).
    ///
    /// Context: any; inside the allocator (an interrupt, a signal handler) the free is put off.
    ///
    /// # Errors
    /// What is wrong with the block; it is not freed then.
    ///
    /// # Safety
    /// Nobody may use the block any more through this reference.
    #[inline(always)]
    pub unsafe fn free(&self, pfn: Pfn, order: Order) -> Result<(), Misuse> {
        if self.put_quick(pfn, order) {
            return Ok(());
        }
        // SAFETY: promised by the caller.
        unsafe { self.free_long(pfn, order) }
    }

    /// [`PageAllocator::free`] of what is no plain block that the usual list takes at once.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    unsafe fn free_long(&self, pfn: Pfn, order: Order) -> Result<(), Misuse> {
        let word = self.frames.get_acquire(pfn);
        // SAFETY: the caller gave up its reference; so here and for what follows from it.
        let again = |pfn, order| unsafe { self.free(pfn, order) };
        if !word.is_block(FrameKind::Page, order) {
            let give = |pfn, order| self.give(pfn, order);
            return self.free_unlike(pfn, order, &give, &again);
        }
        if word.payload() != 1 {
            return self.drop_shared(pfn, word, &again);
        }
        self.give(pfn, order);
        Ok(())
    }

    /// [`PageAllocator::give`] inside a section.
    #[inline(never)]
    fn free_inside(&self, local: Local<'_, P>, pfn: Pfn, order: Order) {
        self.free_local(&local, pfn, order);
        local.leave();
    }

    /// Gives back a block that the caller owns alone.
    pub(super) fn give(&self, pfn: Pfn, order: Order) {
        match Local::enter(&self.platform) {
            Ok(local) => self.free_inside(local, pfn, order),
            Err(_) => self.defer(pfn, order),
        }
    }

    /// Frees what is not a plain block of this order: drops a reference of a compound block (P348),
    /// or asks who can move the block. `give` takes back what nobody has a reference of; `free` is
    /// the call that this is part of.
    #[cold]
    pub(super) fn free_unlike(
        &self,
        pfn: Pfn,
        order: Order,
        give: &dyn Fn(Pfn, Order),
        free: &dyn Fn(Pfn, Order) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        match self.frames.drop_ref(pfn, order) {
            Dropped::Last => give(pfn, order),
            Dropped::Shared => (),
            Dropped::Free => return Err(Misuse::DoubleFree),
            Dropped::NoBlock => return self.free_other(pfn, order, free),
        }
        Ok(())
    }

    /// Drops one of several references of a block that is not compound (P342): the pages after the
    /// first are freed, and the first follows with its last reference.
    ///
    /// `free` is the call that this is part of.
    #[cold]
    pub(super) fn drop_shared(
        &self,
        pfn: Pfn,
        word: FrameWord,
        free: &dyn Fn(Pfn, Order) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        let order = word.order();
        let Some(references) = word.payload().checked_sub(1) else {
            return Err(Misuse::DoubleFree);
        };
        let new = word.part(Order::ZERO).with_payload(references);
        if !self.frames.replace(pfn, word, new) {
            // Somebody else changed the count: look again. The caller's reference is still there.
            return free(pfn, order);
        }
        for o in (0..order.get()).rev().filter_map(Order::new) {
            let part = pfn.add(o.pages());
            self.frames.set(part, word.part(o));
            // These pages belonged to the reference that was dropped, and nobody else.
            free(part, o)?;
        }
        Ok(())
    }

    /// Puts a block into this CPU's cache, or into its zone.
    #[inline]
    pub(super) fn free_local(&self, local: &Local<'_, P>, pfn: Pfn, order: Order) {
        // Read once: others may change the type meanwhile, and what is noted as usual must be true.
        let Some(place) = self.blocks.place_of(pfn) else {
            return;
        };
        let Some(zone) = self.zones.get(place.zone_or_more()) else {
            return; // in no zone
        };
        let cache = self.cache(local, zone);
        if let Some(cache) = cache {
            cache.events.free_pages.add(order.pages());
        }
        let word = self.clear_freed(pfn, order);
        if let Some((cache, list)) = cache.zip(List::of(order, place.kind())) {
            let frame = self.frame_index(pfn);
            self.frames.set(pfn, word);
            let lists = Front::lists_of(zone.id.into());
            self.note_usual(local, place.key(), list.at(lists), order);
            if cache.push(list, frame)
                || self.make_room(local, zone, cache, list) && cache.push(list, frame)
            {
                return;
            }
        }
        self.frames.set(pfn, FrameWord::NONE);
        self.put(local, zone, pfn, order);
    }

    /// Gives the oldest `n` blocks of a cache list back to their zone.
    #[inline(never)]
    pub(super) fn flush(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        cache: &ZoneCache,
        list: List,
        n: usize,
    ) {
        if let (1, [oldest, ..]) = (n, cache.frames(list)) {
            let pfn = self.frames.base().add(oldest.load(Relaxed) as usize);
            cache.drop_oldest(list, 1);
            return self.put_cached(local, zone, pfn, list.order());
        }
        let (mut twice, mut done, n) = (None, 0, n.min(cache.blocks(list)));
        while done != n {
            let batch = (n - done).min(HOLD_MOST);
            let frames = &cache.frames(list)[done..][..batch];
            let found = self.put_batch(local, zone, list.order(), frames);
            twice = twice.or(found);
            done += batch;
        }
        cache.drop_oldest(list, n);
        self.after_put(local, zone, twice);
    }

    /// Gives a block back that came out of a list.
    fn put_cached(&self, local: &Local<'_, P>, zone: &Zone, pfn: Pfn, order: Order) {
        // As in `put_batch`.
        if !self.frames.get(pfn).is_block(FrameKind::Cached, order) {
            return self.complain_twice(pfn);
        }
        self.frames.set(pfn, FrameWord::NONE);
        self.put(local, zone, pfn, order);
    }

    /// Puts blocks of a list back, [`HOLD_MOST`] at most, which stay in it: what lies in one shard
    /// under one hold of its lock. Returns a block that was freed twice.
    fn put_batch(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        order: Order,
        frames: &[AtomicU32],
    ) -> Option<Pfn> {
        let base = self.frames.base();
        let (mut twice, mut left) = (None, (1u64 << frames.len()) - 1);
        while let Some(first) = frames.get(left.trailing_zeros() as usize) {
            let first = base.add(first.load(Relaxed) as usize);
            let shard = self.shard_of(zone, first);
            let Some(mut guard) = zone.try_lock_shard(&self.blocks, local, shard) else {
                let (sent, again) = self.send(local, zone, shard, order, frames, left);
                left ^= sent;
                twice = twice.or(again);
                continue;
            };
            let mut put = Return::new(&mut guard, order);
            let mut others = 0;
            for (i, frame) in frames.iter().enumerate() {
                let frame = frame.load(Relaxed);
                // Its pageblock's number, as in `block_of`: the tables begin at the same frame.
                if !shard.has((frame >> PAGEBLOCK_ORDER) as usize) {
                    others |= 1 << i;
                    continue;
                }
                // What is not marked as cached was freed twice at once, and is in use or free
                // already.
                match self.frames.owned_word(frame) {
                    Some(word) if is_cached(word, order) => {
                        word.store(FrameWord::NONE.bits(), Relaxed);
                        put.add(base.add(frame as usize));
                    }
                    _ => twice = Some(base.add(frame as usize)),
                }
            }
            twice = twice.or(put.finish());
            drop(guard);
            left &= others;
            self.look_for_mail(local, zone, shard);
        }
        twice
    }

    /// Sends what is of one shard, whose lock somebody has: of some blocks of a list those that
    /// `left` has bits of. Returns the bits of what was sent, and a block that was freed twice.
    #[cold]
    #[inline(never)]
    fn send(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        shard: &Shard,
        order: Order,
        frames: &[AtomicU32],
        left: u64,
    ) -> (u64, Option<Pfn>) {
        let base = self.frames.base().0;
        let (mut sent, mut twice) = (0u64, None);
        let bits = (0..u64::BITS as usize).filter(|i| left >> i & 1 != 0);
        let blocks = bits.filter_map(|i| {
            let frame = frames.get(i)?.load(Relaxed);
            let pfn = Pfn(base + frame as usize);
            if !shard.has(self.block_of(pfn)) {
                return None;
            }
            sent |= 1 << i;
            // As in `put_batch`: asked before the block is sent, so a second one is seen.
            let cached = self
                .frames
                .owned_word(frame)
                .is_some_and(|word| is_cached(word, order));
            if !cached {
                twice = Some(pfn);
            }
            cached.then_some(pfn)
        });
        shard.mail.send(&self.frames, order, blocks);
        self.look_for_mail(local, zone, shard);
        (sent, twice)
    }

    /// The number of a block, by a frame of it that is one of a zone.
    #[inline]
    pub(super) fn block_of(&self, pfn: Pfn) -> usize {
        (pfn.0 >> PAGEBLOCK_ORDER) - self.blocks.first
    }

    /// The shard of a frame of this zone.
    #[inline]
    pub(super) fn shard_of<'z>(&self, zone: &'z Zone, pfn: Pfn) -> &'z Shard {
        &zone.shards()[zone.shard_of(self.block_of(pfn))]
    }

    /// Takes the block that was cached last. One that is not marked as cached was freed twice at
    /// once and has another owner by now: it is reported and left to that owner.
    #[inline]
    pub(super) fn pop(&self, cache: &ZoneCache, list: List) -> Option<Pfn> {
        loop {
            let pfn = Pfn(self.frames.base().0 + cache.pop(list)? as usize);
            if self
                .frames
                .owned(pfn)
                .is_block(FrameKind::Cached, list.order())
            {
                return Some(pfn);
            }
            self.complain_twice(pfn);
        }
    }

    /// Gives one block back to its zone.
    pub(super) fn put(&self, local: &Local<'_, P>, zone: &Zone, pfn: Pfn, order: Order) {
        let shard = self.shard_of(zone, pfn);
        let Some(mut guard) = zone.try_lock_shard(&self.blocks, local, shard) else {
            return self.put_or_send(local, zone, pfn, order);
        };
        let put = guard.put(pfn, order);
        drop(guard);
        self.look_for_mail(local, zone, shard);
        self.after_put(local, zone, (!put).then_some(pfn));
    }

    /// What follows a return of memory to a zone: free page reporting, and the report of a block
    /// that was free already (two frees raced, or somebody wrote the frame table).
    pub(super) fn after_put(&self, local: &Local<'_, P>, zone: &Zone, twice: Option<Pfn>) {
        if let Some(pfn) = twice {
            self.complain_twice(pfn);
        }
        zone.hope_again();
        // Relaxed: memory that comes free just now may go to the platform or wait for a device.
        let keep = self.report_keep.load(Relaxed);
        if zone.nr_dirty() > keep {
            self.report_free(local, zone, keep, REPORT_MOST);
        }
    }

    #[cold]
    pub(super) fn complain_twice(&self, pfn: Pfn) {
        self.complain(&Report {
            misuse: Misuse::DoubleFree,
            addr: self.ptr_of(pfn).addr().get(),
            owner: self.owner_of(pfn),
            caller: Caller::here(),
        });
    }

    /// Free page reporting: gives wholly free blocks beyond the first `keep` to the platform,
    /// `most` at most. Returns how many blocks it took.
    pub(super) fn report_free(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        keep: usize,
        most: usize,
    ) -> usize {
        let mut reported = 0;
        if zone.nr_dirty() <= keep {
            return reported;
        }
        // Highest address first, as within a shard.
        for shard in zone.shards().iter().rev() {
            while reported < most {
                let mut guard = zone.lock_shard(&self.blocks, local, shard);
                let taken = guard.take_reportable(keep);
                drop(guard);
                let Some(taken) = taken else { break };
                // Without the lock: the platform may take its time. The block is ours meanwhile.
                let content = self.discard(taken.pfn);
                let mut guard = zone.lock_shard(&self.blocks, local, shard);
                guard.put_reported(taken.pfn, content, Reported::Taken);
                reported += 1;
            }
            if reported == most || zone.nr_dirty() <= keep {
                break;
            }
        }
        reported
    }

    /// A free from inside the allocator: the block waits (P173) until the next refill or drain.
    #[cold]
    pub(super) fn defer(&self, pfn: Pfn, order: Order) {
        self.clear_freed(pfn, order);
        self.deferred.push(&self.frames, pfn, order);
    }

    /// Frees what was put off.
    #[inline]
    pub(super) fn take_deferred(&self, local: &Local<'_, P>) {
        for (pfn, order) in self.deferred.take(&self.frames) {
            if let Some(zone) = self.blocks.zone_of(pfn) {
                self.put(local, &self.zones[zone], pfn, order);
            }
        }
    }
}

/// True if a frame's word says that a block of this order, which begins there, is in a CPU's cache.
#[inline(always)]
pub(super) fn is_cached(word: &AtomicU64, order: Order) -> bool {
    FrameWord::from_bits(word.load(Relaxed)).is_block(FrameKind::Cached, order)
}
