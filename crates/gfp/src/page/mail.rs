//! What comes back to a shard while somebody else has its lock (P820).
//!
//! 1. Who gives blocks of any order back does not wait: if the lock is taken, they go to the
//!    shard's *mail*, a stack that is linked through their frames' words, all of them with one
//!    exchange. It needs no memory and is never full.
//! 2. Who lets go of the lock after a batch looks for mail and puts it, and who sent some tries the
//!    lock once more. What both miss waits for the next batch at the shard, for a request in need,
//!    or for a drain: nobody owns it, so it counts as cached, not as free (P306).
//! 3. A hold of the lock puts no more than any other (P805, P834).
//! 4. No single block of a pageblock that is isolated is sent. What of it was sent from a cache is
//!    put when every CPU has been outside of the allocator once, as after each the mail is emptied;
//!    and once more if some is on its way even then, in the hands of a CPU that came back.
//! 5. Both copies of a block that was freed twice at once may be sent at the same moment by two
//!    CPUs: then blocks leak, and this is not reported.

use super::free::HOLD_MOST;
use super::ground::Locking;
use super::shard::Shard;
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::flags::MigrateType;
use crate::frame::{FrameStack, FrameTable, Order, Pfn};
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The mail of a shard.
pub(super) struct Mail {
    stack: FrameStack,
    pages: AtomicUsize,
}

impl Mail {
    pub(super) fn new() -> Mail {
        Mail {
            stack: FrameStack::new(),
            pages: AtomicUsize::new(0),
        }
    }

    /// Without the lock: a moment ago.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Pages that wait, or that somebody is about to put.
    pub(super) fn pages(&self) -> usize {
        // Acquire: pairs with the Release in `put_mail`: who sees none sees what was put.
        self.pages.load(Acquire)
    }

    /// Adds blocks that the caller owns.
    pub(super) fn send(
        &self,
        frames: &FrameTable,
        order: Order,
        blocks: impl Iterator<Item = Pfn>,
    ) {
        // Counted first, so that no view sees less than there is.
        let mut pages = 0;
        let blocks = blocks.inspect(|_| pages += order.pages());
        let mut chain = frames.chain(order);
        blocks.for_each(|pfn| chain.add(pfn));
        self.pages.fetch_add(pages, Relaxed);
        self.stack.push_chain(frames, chain);
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Puts the mail of a shard, if there is some and nobody has the lock.
    #[inline(always)]
    pub(super) fn look_for_mail(&self, local: &Local<'_, P>, zone: &Zone, shard: &Shard) {
        if !shard.mail.is_empty() {
            self.put_mail(local, zone, shard, Locking::Try);
        }
    }

    /// Sends a block whose shard's lock somebody has. Of what is isolated somebody waits for the
    /// end of its use, so this waits for the lock.
    #[cold]
    #[inline(never)]
    pub(super) fn put_or_send(&self, local: &Local<'_, P>, zone: &Zone, pfn: Pfn, order: Order) {
        let shard = self.shard_of(zone, pfn);
        if self.blocks.kind_of(pfn) != MigrateType::Isolate {
            shard.mail.send(&self.frames, order, core::iter::once(pfn));
            return self.look_for_mail(local, zone, shard);
        }
        let put = zone.lock_shard(&self.blocks, local, shard).put(pfn, order);
        self.after_put(local, zone, (!put).then_some(pfn));
    }

    /// Puts the mail of all shards of a zone. Returns the pages.
    pub(super) fn put_all_mail(&self, local: &Local<'_, P>, zone: &Zone) -> usize {
        let shards = zone.shards().iter().filter(|shard| !shard.mail.is_empty());
        shards
            .map(|shard| self.put_mail(local, zone, shard, Locking::Wait))
            .sum()
    }

    #[cold]
    #[inline(never)]
    fn put_mail(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        shard: &Shard,
        locking: Locking,
    ) -> usize {
        let (mut twice, mut all) = (None, 0);
        let Some(mut guard) = zone.lock_in(&self.blocks, local, shard, locking) else {
            return 0; // who has it looks when he lets go
        };
        let mut mail = shard.mail.stack.take(&self.frames).peekable();
        loop {
            let mut pages = 0;
            for (pfn, order) in mail.by_ref().take(HOLD_MOST) {
                if !guard.put(pfn, order) {
                    twice = Some(pfn);
                }
                pages += order.pages();
            }
            drop(guard);
            // Release: pairs with the Acquire in `pages`.
            shard.mail.pages.fetch_sub(pages, Release);
            all += pages;
            if mail.peek().is_none() {
                break;
            }
            guard = zone.lock_shard(&self.blocks, local, shard);
        }
        self.after_put(local, zone, twice);
        all
    }

    /// Puts all mail. Returns the pages.
    pub(super) fn put_mail_of_all(&self, local: &Local<'_, P>) -> usize {
        let zones = self.zones.iter();
        zones.map(|zone| self.put_all_mail(local, zone)).sum()
    }

    /// Puts the mail of the zones that may serve a request in need.
    pub(super) fn put_mail_for(&self, req: &PageRequest) {
        let has_mail = |zone: &&Zone| zone.shards().iter().any(|shard| !shard.mail.is_empty());
        for zone in self.candidates(req).filter(has_mail) {
            if let Ok(local) = Local::enter(&self.platform) {
                self.put_all_mail(&local, zone);
            }
        }
    }

    /// Pages that wait in the mail of all shards.
    pub(super) fn pages_in_mail(&self) -> usize {
        let shards = self.zones.iter().flat_map(|zone| zone.shards());
        shards.map(|shard| shard.mail.pages()).sum()
    }
}
