//! What a request in need asks of the rooms above.
//!
//! The page allocator gives out what is free. Who can free more (reclaim, compaction, the OOM
//! killer), who waits, and who is told stands above it, and fills this trait in. It is handed in
//! with each request ([`PageAllocator::alloc_with`]), so that nobody keeps pointers to anybody.

use super::{PageAllocator, PageRequest};
use crate::flags::ZoneKind;
use crate::frame::{NodeId, Pfn};
use crate::platform::{Platform, caller_of, now_of};
use crate::policy::effort::{
    Backoff, Caller, CompactOutcome, CompactPriority, Effort, Machine, Now,
};

/// What came of a compaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// The block that was wanted, taken out of the free memory before anybody else could (P320).
    Captured(Pfn),
    /// No block for us.
    Ended(CompactOutcome),
}

/// What came of a round of reclaim, in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Freed (P122).
    pub pages: usize,
    /// Another round could free so many, somewhere (P121).
    pub left: usize,
}

/// One request in need: what it asked for and what it may do.
#[derive(Copy, Clone, Debug)]
pub struct Need<'r> {
    /// The request.
    pub request: &'r PageRequest,
    /// What it may do.
    pub effort: &'r Effort,
}

/// What the background of a node is woken for (P112, P400).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct WakeUp {
    /// The order that is wanted.
    pub order: u32,
    /// The highest zone that the waker could use.
    pub highest: ZoneKind,
    /// The waker can reclaim, and so compact, itself.
    pub direct_reclaim: bool,
}

/// The rooms above, as the slow path sees them.
///
/// Every method is called outside of sections, with no lock held, in the context of the request;
/// what waits is called only for a request that may (its [`Effort`] says so). Every default is
/// that of a machine which does not have the thing.
pub trait Relief<P: Platform> {
    /// Who asks.
    fn caller(&self, pages: &PageAllocator<P>) -> Caller {
        caller_of(pages.platform())
    }

    /// What this machine can do.
    fn machine(&self, pages: &PageAllocator<P>) -> Machine {
        Machine {
            allowed: pages.allowed(),
            can_compact: false,
            can_kill: false,
            dma_has_pages: pages.has_zone(ZoneKind::Dma),
            ..Machine::LINUX
        }
    }

    /// What may have changed since: asked with each step.
    fn now(&self, pages: &PageAllocator<P>) -> Now {
        now_of(pages.platform())
    }

    /// P112: the background of a node is to work.
    fn wake_background(&self, pages: &PageAllocator<P>, node: NodeId, call: &WakeUp) {
        let _ = (pages, node, call);
    }

    /// P118: reclaims.
    fn reclaim(&self, pages: &PageAllocator<P>, need: &Need<'_>, order: u32) -> Reclaimed {
        let _ = (pages, need, order);
        Reclaimed::default()
    }

    /// P408: reclaims on one node, for a request that would go to another otherwise. Whether it is
    /// worth to look at the node again. Called only for a request that may reclaim.
    fn reclaim_near(&self, pages: &PageAllocator<P>, need: &Need<'_>, node: NodeId) -> bool {
        let _ = (pages, need, node);
        false
    }

    /// P118: gives back what is kept for speed only.
    fn take_back(&self, pages: &PageAllocator<P>, need: &Need<'_>) {
        let _ = (pages, need);
    }

    /// P119: compacts.
    fn compact(
        &self,
        pages: &PageAllocator<P>,
        need: &Need<'_>,
        order: u32,
        priority: CompactPriority,
    ) -> Compacted {
        let _ = (pages, need, order, priority);
        Compacted::Ended(CompactOutcome::Skipped)
    }

    /// P121: pages of a zone that reclaim could free, beside [`Reclaimed::left`].
    fn reclaimable(&self, pages: &PageAllocator<P>, zone: usize) -> usize {
        let _ = (pages, zone);
        0
    }

    /// P125: could reclaim make some zone suitable for compaction?
    fn could_suit_compaction(&self, pages: &PageAllocator<P>, need: &Need<'_>) -> bool {
        let _ = (pages, need);
        false
    }

    /// P128: takes the machine's OOM lock, if nobody has it.
    fn oom_lock(&self, pages: &PageAllocator<P>) -> bool {
        let _ = pages;
        false
    }

    /// P128: gives it back. Called only by a request that holds it.
    fn oom_unlock(&self, pages: &PageAllocator<P>) {
        let _ = pages;
    }

    /// P130: kills. True if that made progress. Called only by a request that holds the OOM lock.
    fn oom_kill(&self, pages: &PageAllocator<P>, need: &Need<'_>) -> bool {
        let _ = (pages, need);
        false
    }

    /// P124: waits between two rounds; `turn` counts them.
    fn back_off(&self, pages: &PageAllocator<P>, how: Backoff, turn: u32) {
        let _ = how;
        pages.platform().relax(turn);
    }

    /// P117: the request has looped since `since_ns` of the platform's clock.
    fn check_stall(&self, pages: &PageAllocator<P>, need: &Need<'_>, since_ns: u64) {
        let _ = (pages, need, since_ns);
    }

    /// P600: the request fails, and is to be reported.
    fn report_failure(&self, pages: &PageAllocator<P>, need: &Need<'_>) {
        let _ = (pages, need);
    }
}

/// Nobody above: a machine of pages alone.
#[derive(Copy, Clone, Debug)]
pub struct Alone;

impl<P: Platform> Relief<P> for Alone {}
