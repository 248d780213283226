//! Where slabs come from and go to: pages, descriptors, and the memory of sheaves.
//!
//! Nothing here may be called inside a section or with a lock held.

use super::cache::{Cache, DescPlace, Shape, on_slab_start};
use super::desc::{ALLOCATED, FREE, NewSlab, ON_SLAB, RECLAIMABLE, SlabPtr, desc_size};
use super::flow::serve;
use super::lists::Released;
use super::sheaf::{CpuTable, Entry};
use super::{DESC_SIZES, INTERNAL_CACHE, SHEAF_CAPACITIES, Slabs};
use crate::error::AllocError;
use crate::flags::{GFP_CONSTRAINT_MASK, GFP_NOWAIT, GFP_RECLAIM_MASK, Gfp};
use crate::frame::{FrameKind, FrameWord, MAX_NODES, NodeId, Order, Pfn};
use crate::page::{PageRequest, Place};
use crate::platform::Platform;
use crate::reclaim::Above;
use crate::report::Misuse;
use crate::sync::Local;
use crate::sync::atomic::Ordering;
use core::ptr::NonNull;

use Ordering::Relaxed;

/// What a request for pages takes over from a request for objects.
const PAGE_BITS: Gfp = GFP_RECLAIM_MASK.with(GFP_CONSTRAINT_MASK);

/// What makes a request for pages try hard.
const EFFORT: Gfp = Gfp::RECLAIM.with(Gfp::NOFAIL).with(Gfp::RETRY_MAYFAIL);
/// A request that has another way to go on.
const FIRST_TRY: Gfp = Gfp::NORETRY.with(Gfp::NOWARN).with(Gfp::NOMEMALLOC);

/// How far a request looks whose own home has no free object (S78). Each step is taken when no slab
/// could be made in the one before, so a node that is full costs no slab of another for each
/// object.
#[derive(Copy, Clone)]
pub(super) enum Reach {
    /// The CPU's home on the wanted node, which slabs come from first.
    Near(NodeId),
    /// Its homes on all nodes.
    Around,
    /// The homes of all CPUs; why no slab could be made on any node.
    Everywhere(AllocError),
}

/// What a new slab is made for: the parts of a cache that are needed while no section keeps it
/// alive.
#[derive(Copy, Clone)]
pub(super) struct Plan {
    pub(super) cache: NonNull<Cache>,
    pub(super) shape: Shape,
    pub(super) sheaf_id: u16,
    pub(super) page_gfp: Gfp,
    pub(super) ctor: Option<fn(*mut u8)>,
    pub(super) reclaimable: bool,
}

impl Plan {
    pub(super) fn of(cache: &Cache) -> Plan {
        Plan {
            cache: NonNull::from(cache),
            shape: cache.shape,
            sheaf_id: cache.sheaf_id,
            page_gfp: cache.page_gfp,
            ctor: cache.ctor,
            reclaimable: cache.is_reclaimable(),
        }
    }
}

/// What a new slab is made of.
pub(super) struct SlabBlock {
    pub(super) pfn: Pfn,
    pub(super) order: Order,
    pub(super) objects: usize,
    /// Where its first object stands.
    pub(super) base: NonNull<u8>,
    pub(super) desc: NonNull<u8>,
}

impl<P: Platform> Above for Slabs<P> {
    fn give_back(&self) -> usize {
        self.shrink_all()
    }

    fn reclaimable_slab_pages(&self, node: NodeId) -> usize {
        self.reclaimable_pages_of(node)
    }
}

impl<P: Platform> Slabs<P> {
    /// Pages for slabs, and for who stands above them: before the request fails, what slabs hold is
    /// taken back.
    ///
    /// Context: outside of sections, with no lock held.
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`](crate::page::PageAllocator::alloc).
    #[inline(always)]
    pub fn alloc_pages(&self, req: &PageRequest) -> Result<Pfn, AllocError> {
        self.reclaim.alloc(req, self)
    }

    /// Single pages, as [`Slabs::alloc_pages`] gets them.
    pub fn alloc_pages_bulk(&self, req: &PageRequest, out: &mut [Option<Pfn>]) -> usize {
        self.reclaim.alloc_bulk(req, out, self)
    }

    /// Exactly so many bytes of pages, as [`Slabs::alloc_pages`] gets them.
    ///
    /// # Errors
    /// As [`PageAllocator::alloc_exact`](crate::page::PageAllocator::alloc_exact).
    pub fn alloc_pages_exact(&self, bytes: usize, gfp: Gfp) -> Result<(Pfn, usize), AllocError> {
        self.reclaim.alloc_exact(bytes, gfp, self)
    }

    /// S57: the pages of a slab: the preferred order without effort, then the smallest with all of
    /// it.
    fn slab_pages_for(
        &self,
        plan: &Plan,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<(Pfn, Order, usize), AllocError> {
        let (shape, place) = (&plan.shape, node.map(Place::near));
        if shape.order > shape.min_order {
            let light = gfp.without(EFFORT).with(FIRST_TRY);
            let req = PageRequest {
                order: shape.order,
                gfp: light,
                place,
            };
            if let Ok(pfn) = self.alloc_pages(&req) {
                return Ok((pfn, shape.order, shape.objects));
            }
        }
        let pfn = self.alloc_pages(&PageRequest {
            order: shape.min_order,
            gfp,
            place,
        })?;
        Ok((pfn, shape.min_order, shape.min_objects))
    }

    /// Makes a slab. It is on no list yet, and all its objects are free.
    pub(super) fn make_slab(
        &self,
        plan: &Plan,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<SlabPtr, AllocError> {
        let gfp = gfp.intersection(PAGE_BITS).with(plan.page_gfp);
        let (pfn, order, objects) = self.slab_pages_for(plan, gfp, node)?;
        let start = self.pages().ptr_of(pfn);
        let (desc, base) = match plan.shape.place {
            DescPlace::OnSlab => {
                // SAFETY: [INV-PAGE-1] the block is ours; `Shape::on_slab` left room for both.
                (start, unsafe {
                    start.add(on_slab_start(objects, plan.shape.stride))
                })
            }
            DescPlace::OutOfLine => {
                // The demands are for the object: its descriptor may lie anywhere.
                let own = gfp.without(plan.page_gfp.with(Gfp::THISNODE));
                match self.take_internal(desc_cache(objects), own) {
                    Ok(desc) => (desc, start),
                    Err(e) => {
                        self.give_pages(pfn, order);
                        return Err(e);
                    }
                }
            }
        };
        let block = SlabBlock {
            pfn,
            order,
            objects,
            base,
            desc,
        };
        Ok(self.build_slab(plan, &block))
    }

    /// Makes a slab of a block and a descriptor that are ours.
    #[inline(always)]
    pub(super) fn build_slab(&self, plan: &Plan, block: &SlabBlock) -> SlabPtr {
        let (pfn, order) = (block.pfn, block.order);
        let on_slab = if plan.shape.place == DescPlace::OnSlab {
            ON_SLAB
        } else {
            0
        };
        let flags = on_slab | if plan.reclaimable { RECLAIMABLE } else { 0 };
        let new = NewSlab {
            base: block.base,
            cache: plan.cache,
            stride: plan.shape.stride,
            objects: block.objects,
            id: plan.sheaf_id,
            order,
            flags,
            node: self.pages().node_of(pfn).0,
        };
        // SAFETY: `desc` has room for a descriptor of `objects` objects, is aligned to 16, and
        // ours.
        let slab = unsafe { SlabPtr::init(block.desc, &new) };
        let at = self.pages().direct_map().phys(block.desc.addr().get());
        let word = FrameWord::new(FrameKind::Slab, order, at.0);
        for i in 0..order.pages() {
            self.pages().set_word(pfn.add(i), word);
        }
        if let Some(ctor) = plan.ctor {
            for index in 0..block.objects {
                ctor(slab.object(index).as_ptr()); // S53
            }
        }
        slab
    }

    /// Gives the memory of slabs back that are on no list any more. Returns their pages.
    pub(super) fn free_released(&self, mut released: Released) -> usize {
        let mut pages = 0;
        while let Some(slab) = released.pop() {
            pages += self.free_slab(slab);
        }
        pages
    }

    pub(super) fn free_slab(&self, slab: SlabPtr) -> usize {
        debug_assert!(slab.in_use() == 0);
        let order = slab.order();
        let pfn = self.pages().pfn_of(slab.base.addr().get());
        let (objects, on_slab) = (slab.objects as usize, slab.has(ON_SLAB));
        self.leave(slab);
        // The frames first: whoever meets a stale address must not find a stale descriptor.
        self.unmark(pfn, order);
        if !on_slab && let Some(desc) = NonNull::new(slab.as_ptr().cast::<u8>()) {
            self.give_internal(desc_cache(objects), desc);
        }
        self.give_pages(pfn, order);
        order.pages()
    }

    /// Makes a slab's frames ordinary pages again.
    fn unmark(&self, pfn: Pfn, order: Order) {
        for i in (1..order.pages()).rev() {
            self.pages().set_word(pfn.add(i), FrameWord::NONE);
        }
        self.pages()
            .set_word(pfn, FrameWord::new(FrameKind::Page, order, 1));
    }

    pub(super) fn give_pages(&self, pfn: Pfn, order: Order) {
        // SAFETY: the block is ours and used by nobody any more.
        let freed = unsafe { self.pages().free(pfn, order) };
        debug_assert!(freed.is_ok());
    }

    /// A new slab for who found no free object within `reach`. `None`: there was no memory that
    /// near, and more homes are to be asked before the request goes on: `reach` has grown.
    pub(super) fn next_slab(
        &self,
        plan: &Plan,
        gfp: Gfp,
        node: Option<NodeId>,
        reach: &mut Reach,
    ) -> Result<Option<SlabPtr>, AllocError> {
        if let Reach::Near(near) = *reach {
            *reach = Reach::Around;
            // Without effort: memory of another node is better than none of this.
            let light = gfp.without(EFFORT.with(Gfp::HIGH).with(Gfp::MEMALLOC));
            let light = light.with(FIRST_TRY).with(Gfp::THISNODE);
            return match self.make_slab(plan, light, Some(near)) {
                Err(AllocError::NoMemory { .. } | AllocError::NoSuchNode) => Ok(None),
                made => made.map(Some),
            };
        }
        match *reach {
            Reach::Everywhere(error) if !gfp.contains(Gfp::NOFAIL) => Err(error),
            Reach::Everywhere(_) => self.make_slab(plan, gfp, node).map(Some),
            _ => match self.make_slab(plan, gfp.without(Gfp::NOFAIL), node) {
                Err(e @ AllocError::NoMemory { .. }) => {
                    *reach = Reach::Everywhere(e);
                    Ok(None)
                }
                made => made.map(Some),
            },
        }
    }

    /// Where a request starts that wants objects of this node. Near is the only node there is, or
    /// the only one allowed: then there is nothing to be gained from a first try.
    pub(super) fn first_reach(&self, wanted: usize, strict: bool) -> Reach {
        match self.homes.is_one_node() || strict {
            true => Reach::Around,
            false => Reach::Near(NodeId(wanted as u8)),
        }
    }

    /// Takes an object of an internal cache.
    pub(super) fn take_internal(&self, index: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        let cache = &self.internal[index];
        let plan = Plan::of(cache);
        let mut fresh: Option<SlabPtr> = None;
        let mut reach: Option<Reach> = None;
        loop {
            let local = match Local::enter(self.platform()) {
                Ok(local) => local,
                Err(nested) => {
                    fresh.map(|slab| self.free_slab(slab));
                    return Err(nested.into());
                }
            };
            let here = self.near(&local);
            let take = |at: usize, fresh: Option<SlabPtr>| {
                let mut home = cache.homes[at].lock(&local);
                if let Some(slab) = fresh {
                    self.join(&mut home, slab, at);
                }
                serve(&mut home, None)
            };
            let from = fresh.as_ref().map_or(here, |slab| slab.node.into());
            let own = self.homes.home(from, local.cpu());
            let mut found = own.and_then(|at| take(at, fresh.take()));
            if let (None, Some(reach)) = (found, reach) {
                let mut within = self.homes.within(reach, here, local.cpu());
                found = within.find_map(|at| take(at, None));
            }
            drop(local);
            if let Some(object) = found {
                return Ok(object);
            }
            let reach = reach.get_or_insert_with(|| self.first_reach(here, false));
            fresh = self.next_slab(&plan, gfp, None, reach)?;
        }
    }

    /// Gives an object of an internal cache back.
    pub(super) fn give_internal(&self, index: usize, object: NonNull<u8>) {
        let Some((slab, i)) = self.object_at(object.addr().get()) else {
            debug_assert!(false, "an internal object is in a slab");
            return;
        };
        let mut released = Released::new();
        // Inside the allocator (an interrupt) nobody gives internal objects back: the slow paths
        // that do are outside of every section. So this enters; should it ever not, the object
        // leaks.
        if let Ok(local) = Local::enter(self.platform()) {
            let cache = &self.internal[index];
            debug_assert!(slab.cache == NonNull::from(cache));
            let mut home = cache.home_of(slab).lock(&local);
            let put = home.put(slab, i, ALLOCATED, &mut released);
            debug_assert!(put);
        }
        self.free_released(released);
    }

    /// The slab and number of the object that starts at `addr`, of any cache and in any state.
    #[inline]
    pub(super) fn object_at(&self, addr: usize) -> Option<(SlabPtr, usize)> {
        let slab = self.slab_of(addr)?;
        Some((slab, slab.locate(addr)?))
    }

    /// The slab whose pages hold `addr`.
    #[inline]
    pub(super) fn slab_of(&self, addr: usize) -> Option<SlabPtr> {
        self.slab_in(self.pages().word_at(addr))
    }

    /// The slab that a frame's word names.
    #[inline(always)]
    pub(super) fn slab_in(&self, word: FrameWord) -> Option<SlabPtr> {
        if !word.is(FrameKind::Slab) {
            return None;
        }
        let desc = self.pages().direct_map().ptr(word.phys()).cast();
        // SAFETY: [INV-SLAB-1] it names its descriptor. The caller owns an object (or is wild).
        NonNull::new(desc).map(|desc| unsafe { SlabPtr::new(desc) })
    }

    /// Makes the table of the section's CPU if it has none. Outside of sections.
    #[cold]
    pub(super) fn make_table(&self, gfp: Gfp) {
        let req = PageRequest::new(
            gfp.intersection(GFP_RECLAIM_MASK).nested_mask(),
            Order::ZERO,
        );
        let Ok(pfn) = self.pages().alloc(&req) else {
            return;
        };
        let table = self.pages().ptr_of(pfn).cast::<CpuTable>();
        // The mask first: what comes after it is found once more.
        let nodes = self.pages().node_mask();
        let node = self.nearest_node();
        // SAFETY: [INV-PAGE-1] the page is ours, and a table fits a page.
        unsafe { table.write(CpuTable::new(node, nodes)) };
        if let Ok(local) = Local::enter(self.platform())
            && let Some(cpu) = self.cpus.get(local.cpu().0 as usize)
            && cpu.load(Relaxed).is_null()
        {
            // Release: the table is written before it is found. Only this CPU stores here.
            cpu.store(table.as_ptr(), Ordering::Release);
            return;
        }
        self.give_pages(pfn, Order::ZERO);
    }

    /// The node with memory that comes next from this CPU's on.
    pub(super) fn nearest_node(&self) -> u16 {
        let mine = self.platform().node().0;
        let nodes = self.pages().nodes();
        let distance = |n: &NodeId| n.0.wrapping_sub(mine) as usize % MAX_NODES;
        nodes.min_by_key(distance).map_or(0, |n| n.0.into())
    }

    /// Gives the section's CPU a sheaf for a cache. Outside of sections; failure means to go
    /// without.
    #[cold]
    pub(super) fn make_sheaf(&self, id: u16, capacity: usize, gfp: Gfp) {
        let Some(index) = SHEAF_CAPACITIES.iter().position(|c| *c == capacity) else {
            return;
        };
        let gfp = if gfp.is_empty() { GFP_NOWAIT } else { gfp };
        let gfp = gfp.intersection(GFP_RECLAIM_MASK).nested_mask();
        let Ok(memory) = self.take_internal(DESC_SIZES.len() + index, gfp) else {
            return;
        };
        if let Ok(local) = Local::enter(self.platform())
            && let Some(slot) = self.slot(&local, id)
            && slot.capacity() == 0
            && let Some(cache) = self.cache_at(&local, id)
            && cache.sheaf_capacity == capacity
        {
            // SAFETY: the section is ours, and the memory has room for `capacity` entries.
            unsafe { slot.install(memory.cast::<Entry>(), capacity) };
            return;
        }
        self.give_internal(DESC_SIZES.len() + index, memory);
    }

    /// Frees the memory of a sheaf.
    pub(super) fn free_sheaf(&self, entries: NonNull<Entry>, capacity: usize) {
        if let Some(index) = SHEAF_CAPACITIES.iter().position(|c| *c == capacity) {
            self.give_internal(DESC_SIZES.len() + index, entries.cast());
        }
    }

    /// Memory for a cache.
    pub(super) fn take_cache(&self, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.take_internal(INTERNAL_CACHE, gfp)
    }

    pub(super) fn give_cache(&self, cache: NonNull<u8>) {
        self.give_internal(INTERNAL_CACHE, cache);
    }

    /// What is wrong with a free of `addr`.
    #[cold]
    pub(super) fn misuse_of(&self, addr: usize) -> Misuse {
        let pfn = self.pages().pfn_of(addr);
        if let Some(slab) = self.slab_of(addr) {
            return match (slab.locate(addr), slab.covering(addr)) {
                _ if slab.has(ON_SLAB) => Misuse::WildFree,
                (Some(i), _) if slab.state(i).load(Relaxed) == ALLOCATED => Misuse::LiveObject,
                (Some(_), _) => Misuse::DoubleFree,
                (None, Some(i)) if slab.state(i).load(Relaxed) == FREE => Misuse::WildFree,
                (None, Some(_)) => Misuse::InteriorFree,
                (None, None) => Misuse::WildFree,
            };
        }
        let head = self.pages().head_of(pfn);
        match self.pages().frames().get(pfn).kind() {
            FrameKind::LargeKmalloc => Misuse::InteriorFree,
            FrameKind::Page
            | FrameKind::Compound
            | FrameKind::Movable
            | FrameKind::Vmalloc
            | FrameKind::DmaCoherent => Misuse::WrongCall,
            FrameKind::None if self.pages().is_free(pfn) => Misuse::DoubleFree,
            FrameKind::None => match head.map(|(_, word)| word.kind()) {
                Some(FrameKind::LargeKmalloc) => Misuse::InteriorFree,
                Some(
                    FrameKind::Page
                    | FrameKind::Compound
                    | FrameKind::Movable
                    | FrameKind::DmaCoherent,
                ) => Misuse::WrongCall,
                _ => self.pages().diagnose(pfn, Order::ZERO),
            },
            _ => self.pages().diagnose(pfn, Order::ZERO),
        }
    }
}

/// The internal cache for descriptors of slabs with this many objects.
pub(super) fn desc_cache(objects: usize) -> usize {
    // `Shape::out_of_line` lets no slab have more objects than the largest has room for.
    let size = desc_size(objects);
    DESC_SIZES.iter().take_while(|s| **s < size).count()
}
