//! The slabs of one cache, by node and by how full they are.

use super::desc::{NO_CLAIM, Slab, SlabPtr};
use crate::frame::{CpuId, MAX_NODES};
use crate::sync::atomic::Ordering::Relaxed;
use core::ptr::NonNull;

/// A doubly linked list of slabs; its links are in the descriptors and belong to the cache's lock.
pub(super) struct List {
    head: *mut Slab,
    pub(super) len: usize,
}

impl List {
    pub(super) const fn new() -> List {
        List {
            head: core::ptr::null_mut(),
            len: 0,
        }
    }

    /// The slab that was put last.
    pub(super) fn first(&self) -> Option<SlabPtr> {
        // SAFETY: [INV-SLAB-1] a slab is on a list until it is freed.
        NonNull::new(self.head).map(|s| unsafe { SlabPtr::new(s) })
    }

    pub(super) fn push(&mut self, slab: SlabPtr) {
        debug_assert!(self.head != slab.as_ptr());
        slab.prev.store(core::ptr::null_mut(), Relaxed);
        slab.next.store(self.head, Relaxed);
        if let Some(head) = self.first() {
            head.prev.store(slab.as_ptr(), Relaxed);
        }
        self.head = slab.as_ptr();
        self.len += 1;
    }

    pub(super) fn remove(&mut self, slab: SlabPtr) {
        debug_assert!(self.len > 0);
        let (prev, next) = (slab.prev.load(Relaxed), slab.next.load(Relaxed));
        // SAFETY: [INV-SLAB-1] the neighbours are on the same list.
        let at = |p| NonNull::new(p).map(|s| unsafe { SlabPtr::new(s) });
        match at(prev) {
            Some(prev) => prev.next.store(next, Relaxed),
            None => self.head = next,
        }
        if let Some(next) = at(next) {
            next.prev.store(prev, Relaxed);
        }
        self.len -= 1;
    }

    pub(super) fn pop(&mut self) -> Option<SlabPtr> {
        let slab = self.first()?;
        self.remove(slab);
        Some(slab)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SlabPtr> {
        let mut at = self.first();
        core::iter::from_fn(move || {
            let slab = at?;
            // SAFETY: [INV-SLAB-1] the next slab is on the same list, which is borrowed.
            at = NonNull::new(slab.next.load(Relaxed)).map(|s| unsafe { SlabPtr::new(s) });
            Some(slab)
        })
    }
}

/// The slabs of one node. Which list a slab is on follows from how many of its objects are in use.
pub(super) struct NodeSlabs {
    pub(super) partial: List,
    pub(super) full: List,
    pub(super) empty: List,
}

impl NodeSlabs {
    const fn new() -> NodeSlabs {
        NodeSlabs {
            partial: List::new(),
            full: List::new(),
            empty: List::new(),
        }
    }

    pub(super) fn list(&mut self, in_use: usize, objects: usize) -> &mut List {
        if in_use == 0 {
            &mut self.empty
        } else if in_use == objects {
            &mut self.full
        } else {
            &mut self.partial
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SlabPtr> {
        self.full
            .iter()
            .chain(self.partial.iter())
            .chain(self.empty.iter())
    }
}

/// CPUs that a cache tells apart when it fills their sheaves; others share by remainder.
const CLAIMS: usize = 16;

/// From which slabs objects are taken.
///
/// Two CPUs that use objects of one slab write the same lines: those of its descriptor, and of the
/// objects themselves. So each CPU fills its sheaf from a slab that it has claimed, and claims an
/// empty one next, as long as there are few partial slabs; then any. Objects move between CPUs with
/// who frees them.
#[derive(Copy, Clone)]
pub(super) enum From {
    /// Any.
    Any,
    /// The one that this CPU has claimed.
    Cpu {
        /// The CPU.
        cpu: CpuId,
        /// From so many partial slabs on, a CPU claims one of them before a new one is made.
        partial: usize,
    },
}

/// All slabs of a cache; behind the cache's lock.
pub(super) struct CacheSlabs {
    pub(super) nodes: [NodeSlabs; MAX_NODES],
    /// Slabs on all lists.
    pub(super) slabs: usize,
    /// Their pages.
    pub(super) pages: usize,
    /// Objects that they have room for.
    pub(super) objects: usize,
    /// Objects that are not free in a slab.
    pub(super) in_use: usize,
    /// S58: empty or partial slabs that a node keeps.
    pub(super) keep: usize,
    /// The slab that a CPU fills its sheaf from; on a list as any other, and not empty.
    claimed: [Option<SlabPtr>; CLAIMS],
}

// SAFETY: [INV-SLAB-1] the lists own the slabs on them, and descriptors may be used from any
// thread.
unsafe impl Send for CacheSlabs {}

impl CacheSlabs {
    pub(super) const fn new(keep: usize) -> CacheSlabs {
        CacheSlabs {
            nodes: [const { NodeSlabs::new() }; MAX_NODES],
            slabs: 0,
            pages: 0,
            objects: 0,
            in_use: 0,
            keep,
            claimed: [None; CLAIMS],
        }
    }

    /// Adds a new slab, none of whose objects is in use.
    pub(super) fn insert(&mut self, slab: SlabPtr) {
        debug_assert!(slab.in_use() == 0);
        self.nodes[slab.node as usize].empty.push(slab);
        self.slabs += 1;
        self.pages += slab.order().pages();
        self.objects += slab.objects as usize;
    }

    fn forget(&mut self, slab: SlabPtr) {
        self.slabs -= 1;
        self.pages -= slab.order().pages();
        self.objects -= slab.objects as usize;
    }

    /// Takes up to `want` objects of one node, from partial slabs first, and gives them the state
    /// `to`.
    pub(super) fn take(
        &mut self,
        node: usize,
        want: usize,
        to: u8,
        from: From,
        mut out: impl FnMut(SlabPtr, usize),
    ) -> usize {
        let Some(lists) = self.nodes.get_mut(node) else {
            return 0;
        };
        let mut taken = 0;
        while taken < want {
            let Some(slab) = pick(lists, &mut self.claimed, from) else {
                break;
            };
            let objects = slab.objects as usize;
            lists.list(slab.in_use(), objects).remove(slab);
            taken += slab.take(want - taken, to, |index| out(slab, index));
            lists.list(slab.in_use(), objects).push(slab);
        }
        self.in_use += taken;
        taken
    }

    /// Puts one object back into its slab. False if it was not in state `from`.
    pub(super) fn put(
        &mut self,
        slab: SlabPtr,
        index: usize,
        from: u8,
        released: &mut Released,
    ) -> bool {
        let put = slab.put(index, from);
        if put {
            self.returned(slab, 1, released);
        }
        put
    }

    /// Counts `n` objects that were put back into a slab and moves it to the list that it belongs
    /// on now. A slab that got empty joins `released` if the node has enough without it (S58, S80).
    pub(super) fn returned(&mut self, slab: SlabPtr, n: usize, released: &mut Released) {
        let (before, objects) = (slab.in_use(), slab.objects as usize);
        slab.returned(n);
        self.in_use -= n;
        let lists = &mut self.nodes[slab.node as usize];
        let after = before - n;
        if n == 0 || after != 0 && before != objects {
            return; // partial before and after
        }
        if after == 0 {
            let claim = slab.claim.swap(NO_CLAIM, Relaxed);
            if let Some(claimed) = self.claimed.get_mut(claim as usize)
                && *claimed == Some(slab)
            {
                *claimed = None;
            }
        }
        lists.list(before, objects).remove(slab);
        let enough = lists.partial.len + lists.empty.len >= self.keep;
        if after == 0 && enough && !slab.is_pinned() {
            self.forget(slab);
            released.push(slab);
        } else {
            lists.list(after, objects).push(slab);
        }
    }

    /// Takes all empty slabs out that no nested free is about to touch.
    pub(super) fn release_empty(&mut self, released: &mut Released) {
        for node in 0..MAX_NODES {
            let mut kept = List::new();
            while let Some(slab) = self.nodes[node].empty.pop() {
                if slab.is_pinned() {
                    kept.push(slab);
                } else {
                    self.forget(slab);
                    released.push(slab);
                }
            }
            self.nodes[node].empty = kept;
        }
    }

    /// S66: sorts the partial slabs so that the fullest come first.
    pub(super) fn sort_partial(&mut self) {
        for lists in &mut self.nodes {
            // Insertion by how many objects are free, fullest at the head; 32 buckets and a rest.
            let mut buckets = [const { List::new() }; 33];
            while let Some(slab) = lists.partial.pop() {
                let free = slab.objects as usize - slab.in_use();
                buckets[(free - 1).min(32)].push(slab);
            }
            for bucket in buckets.iter_mut().rev() {
                while let Some(slab) = bucket.pop() {
                    lists.partial.push(slab);
                }
            }
        }
    }

    /// The slabs on all lists.
    pub(super) fn iter(&self) -> impl Iterator<Item = SlabPtr> {
        self.nodes.iter().flat_map(NodeSlabs::iter)
    }
}

/// The slab to take objects from.
fn pick(lists: &NodeSlabs, claimed: &mut [Option<SlabPtr>; CLAIMS], from: From) -> Option<SlabPtr> {
    let From::Cpu { cpu, partial } = from else {
        return lists.partial.first().or_else(|| lists.empty.first());
    };
    let claim = cpu.0 as usize % CLAIMS;
    if let Some(slab) = claimed[claim]
        && slab.in_use() < slab.objects as usize
    {
        return Some(slab);
    }
    let many = || {
        lists
            .partial
            .first()
            .filter(|_| lists.partial.len >= partial)
    };
    let slab = lists.empty.first().or_else(many)?;
    // One claim a slab, so that the end of the slab ends all that names it.
    let last = slab.claim.swap(claim as u8, Relaxed);
    if let Some(last) = claimed.get_mut(last as usize) {
        *last = None;
    }
    claimed[claim] = Some(slab);
    Some(slab)
}

/// Slabs that left their cache and whose memory goes back to the page allocator, outside of the
/// lock.
pub(super) struct Released(List);

impl Released {
    pub(super) const fn new() -> Released {
        Released(List::new())
    }

    pub(super) fn push(&mut self, slab: SlabPtr) {
        self.0.push(slab);
    }

    pub(super) fn pop(&mut self) -> Option<SlabPtr> {
        self.0.pop()
    }
}
