//! Reclaim: where memory comes from when none is free.
//!
//! 1. **Concept.** The page allocator gives out what is free, and executes the plan of a request in
//!    need (`policy::effort`). Each step that frees memory ends here: what is kept for speed is
//!    taken back, and the rooms above are asked for what they can do without.
//! 2. **Structure.** `Reclaim` owns the page allocator, and is owned by the slabs: who stands above
//!    allocates through it and hands itself in as [`Above`], so nobody keeps pointers upwards.
//! 3. **Locking.** None of its own. Tasks reclaim side by side where the platform keeps a word for
//!    each; elsewhere one at a time. It is called outside of sections, with no lock held.
//! 4. **Failure.** The request's: [`AllocError`] with the reason.
//! 5. **What it does not do yet.** Deferred work of shrinkers is kept by node, not by group
//!    (issue 8).
//!
//! | module | what |
//! |---|---|
//! | `compact` | pages that their owners move, so that a large block comes free |
//! | `shrinker` | caches whose owner is asked to give objects up |
//! | `lru` | lists of pages whose owner can drop, write or move them |
//! | `direct` | what a request does that found nothing, and when it waits instead |
//! | `near` | one node is reclaimed before a request goes to another |
//! | `kswapd` | the background: one task a node, run by the platform |
//! | `post` | how a node's task is called |
//! | `manual` | what an administrator asks for |
//! | `oom` | one dies so that the others go on |
//! | `pressure` | how hard memory is to come by |
//! | `stalls` | the time spent on making room |
//! | `shortages`, `warn` | why a request ended without memory |
//! | `events` | what was done, in numbers |

mod compact;
mod direct;
mod events;
mod kswapd;
mod lru;
mod manual;
mod near;
pub mod oom;
mod post;
mod pressure;
mod shortages;
mod shrinker;
mod stalls;
#[cfg(test)]
mod tests;
mod warn;

use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{MAX_NODES, NodeId, Pfn};
use crate::page::WakeUp;
use crate::page::{Alone, Compacted, Missed, Need, PageAllocator, PageRequest, Reclaimed, Relief};
use crate::platform::Platform;
use crate::policy::effort::{Backoff, CompactPriority, Machine, TICK_NS};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use compact::Compactor;
use core::array::from_fn;
use events::Counters;
use kswapd::Node;
use near::Near;
use oom::Oom;
pub(crate) use oom::OomLock;
use pressure::PressureState;
use shrinker::Shrinkers;
use stalls::Stalls;
use warn::RateLimit;

pub use events::{CompactEvents, ReclaimEvents};
pub use lru::{LruError, LruEvents, LruPages};
pub use manual::{Dropped, NodeError, ReclaimBusy};
pub use post::NodeTaskError;
pub use shrinker::{ShrinkControl, Shrinker, ShrinkerId};
pub use warn::REPORT_EVERY_NS;

/// The rooms above, as reclaim sees them.
pub trait Above {
    /// Gives back what is kept for speed only: objects in sheaves, empty slabs. Returns the pages
    /// that came free.
    ///
    /// Context: of a request that may wait for other CPUs.
    fn give_back(&self) -> usize;

    /// Pages of slabs on a node whose cache says that it can be asked for objects.
    fn reclaimable_slab_pages(&self, node: NodeId) -> usize {
        let _ = node;
        0
    }
}

/// Nobody stands above.
#[derive(Copy, Clone, Debug)]
pub struct Nobody;

impl Above for Nobody {
    fn give_back(&self) -> usize {
        0
    }
}

/// The pages of one machine, and how more of them come free.
pub struct Reclaim<P: Platform> {
    pages: PageAllocator<P>,
    shrinkers: Shrinkers,
    lru: lru::Home,
    nodes: [Node; MAX_NODES],
    /// The compaction tasks of nodes.
    compactors: [Compactor; MAX_NODES],
    compaction: compact::Tuning,
    events: Counters,
    pressure: PressureState,
    stall_times: Stalls,
    /// P417: nobody is told when caches are dropped.
    silent: AtomicBool,
    /// Requests that reclaim now, on a machine that cannot note it in the task (P133).
    reclaiming: AtomicUsize,
    oom: Oom,
    near: Near,
    /// Reports of requests that ended without memory.
    failures: RateLimit,
    /// Reports of requests that try for long.
    stalls: RateLimit,
}

/// One caller's way to relief.
struct Way<'a, P: Platform, A: ?Sized> {
    reclaim: &'a Reclaim<P>,
    above: &'a A,
}

impl<P: Platform, A: Above + ?Sized> Relief<P> for Way<'_, P, A> {
    fn wake_background(&self, _: &PageAllocator<P>, node: NodeId, call: &WakeUp) {
        self.reclaim.wake_background(node, call);
    }

    fn reclaim(&self, _: &PageAllocator<P>, need: &Need<'_>, _: u32) -> Reclaimed {
        self.reclaim.direct(need, self.above)
    }

    fn reclaim_near(&self, _: &PageAllocator<P>, need: &Need<'_>, node: NodeId) -> bool {
        self.reclaim.reclaim_near(need, node, self.above)
    }

    fn compact(
        &self,
        _: &PageAllocator<P>,
        need: &Need<'_>,
        order: u32,
        priority: CompactPriority,
    ) -> Compacted {
        self.reclaim.compact_directly(need, order, priority)
    }

    fn could_suit_compaction(&self, pages: &PageAllocator<P>, need: &Need<'_>) -> bool {
        let reclaimable = |zone| self.reclaimable(pages, zone);
        self.reclaim.could_suit_compaction(need, reclaimable)
    }

    fn take_back(&self, _: &PageAllocator<P>, _: &Need<'_>) {
        self.above.give_back();
    }

    fn reclaimable(&self, pages: &PageAllocator<P>, zone: usize) -> usize {
        let (node, kind) = pages.place_of_zone(zone);
        self.reclaim.lru_pages_of(node, kind)
    }

    fn machine(&self, pages: &PageAllocator<P>) -> Machine {
        Machine {
            can_kill: self.reclaim.oom.can_kill(),
            // Where nobody's pages can be moved there is no compaction (P126).
            can_compact: pages.has_page_owners(),
            ..Alone.machine(pages)
        }
    }

    fn oom_lock(&self, _: &PageAllocator<P>) -> bool {
        self.reclaim.oom.try_lock()
    }

    fn oom_unlock(&self, pages: &PageAllocator<P>) {
        // SAFETY: [INV-OOM-1] the slow path asks for it only while its request holds the lock.
        unsafe { self.reclaim.oom.unlock(pages.platform()) };
    }

    fn oom_kill(&self, _: &PageAllocator<P>, need: &Need<'_>) -> bool {
        // SAFETY: [INV-OOM-1] as above.
        unsafe { self.reclaim.oom_kill(need) }
    }

    fn back_off(&self, pages: &PageAllocator<P>, how: Backoff, turn: u32) {
        let platform = pages.platform();
        if how == Backoff::Reschedule || platform.sleep().is_none() {
            return platform.relax(turn);
        }
        WaitQueue::pass_ns(platform, TICK_NS);
    }

    fn check_stall(&self, _: &PageAllocator<P>, need: &Need<'_>, since_ns: u64) {
        self.reclaim.check_stall(need, since_ns);
    }

    fn report_failure(&self, _: &PageAllocator<P>, need: &Need<'_>) {
        self.reclaim.report_failure(need);
    }
}

impl<P: Platform> Reclaim<P> {
    /// Takes the machine's pages.
    pub fn boot(pages: PageAllocator<P>) -> Reclaim<P> {
        Reclaim {
            pages,
            shrinkers: Shrinkers::new(),
            lru: lru::Home::new(),
            nodes: from_fn(|_| Node::default()),
            compactors: from_fn(|_| Compactor::default()),
            compaction: compact::Tuning::new(),
            events: Counters::new(),
            pressure: PressureState::new(),
            stall_times: Stalls::new(),
            silent: AtomicBool::new(false),
            reclaiming: AtomicUsize::new(0),
            oom: Oom::new(),
            near: Near::new(),
            failures: RateLimit::new(),
            stalls: RateLimit::new(),
        }
    }

    /// The page allocator below.
    #[inline]
    pub fn pages(&self) -> &PageAllocator<P> {
        &self.pages
    }

    /// What reclaim did since boot.
    pub fn events(&self) -> ReclaimEvents {
        self.events.get()
    }

    /// [`PageAllocator::alloc`] with everything that can free memory.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn alloc<A>(&self, req: &PageRequest, above: &A) -> Result<Pfn, AllocError>
    where
        A: Above + ?Sized,
    {
        match self.pages.alloc_at_hand(req) {
            Ok(pfn) => Ok(pfn),
            Err(missed) => self.alloc_missed(*req, missed, above),
        }
    }

    /// [`Reclaim::alloc`] where no block is at hand.
    #[inline(never)]
    fn alloc_missed<A>(
        &self,
        req: PageRequest,
        missed: Missed,
        above: &A,
    ) -> Result<Pfn, AllocError>
    where
        A: Above + ?Sized,
    {
        let way = Way {
            reclaim: self,
            above,
        };
        self.pages.alloc_missed(req, missed, &way)
    }

    /// [`PageAllocator::alloc_large`] with everything that can free memory.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn alloc_large<A>(&self, req: &PageRequest, above: &A) -> Result<Pfn, AllocError>
    where
        A: Above + ?Sized,
    {
        self.pages.alloc_large(
            req,
            &Way {
                reclaim: self,
                above,
            },
        )
    }

    /// [`PageAllocator::alloc_bulk`] with everything that can free memory.
    pub fn alloc_bulk<A>(&self, req: &PageRequest, out: &mut [Option<Pfn>], above: &A) -> usize
    where
        A: Above + ?Sized,
    {
        self.pages.alloc_bulk_with(
            req,
            out,
            &Way {
                reclaim: self,
                above,
            },
        )
    }

    /// [`PageAllocator::alloc_exact`] with everything that can free memory.
    ///
    /// # Errors
    /// As there.
    pub fn alloc_exact<A>(
        &self,
        bytes: usize,
        gfp: Gfp,
        above: &A,
    ) -> Result<(Pfn, usize), AllocError>
    where
        A: Above + ?Sized,
    {
        self.pages.alloc_exact_with(
            bytes,
            gfp,
            &Way {
                reclaim: self,
                above,
            },
        )
    }
}
