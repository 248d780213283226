//! A machine under test, and who has what of it.

use crate::owners::Owners;
use crate::platform::SimPlatform;
use crate::rng::Rng;
use crate::sim::Sim;
use gfp::Mm;
use gfp::flags::GFP_KERNEL;
use gfp::frame::{FrameKind, PAGE_SIZE, Pfn};
use gfp::platform::Platform;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::pool::cma::CmaId;
use gfp::reclaim::{ShrinkControl, Shrinker};
use gfp::slab::CacheRef;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// A piece of memory that somebody has. Only a [`Lab`] makes one.
#[derive(Copy, Clone, Debug)]
pub enum Block {
    /// Of `alloc_pages`.
    #[non_exhaustive]
    Pages(Pfn, u8),
    /// Of `alloc_pages_exact`: address and bytes.
    #[non_exhaustive]
    Exact(*mut u8, usize),
    /// Of `kmalloc`.
    #[non_exhaustive]
    Object(*mut u8),
    /// Of a cache; its number in the lab.
    #[non_exhaustive]
    OfCache(usize, *mut u8),
    /// Of `vmalloc`.
    #[non_exhaustive]
    Area(*mut u8),
    /// Of `kvmalloc`.
    #[non_exhaustive]
    Either(*mut u8),
    /// Of `alloc_contig_pages`: first frame and pages.
    #[non_exhaustive]
    Contig(Pfn, usize),
    /// Of `cma_alloc`: area, first frame, pages.
    #[non_exhaustive]
    Cma(CmaId, Pfn, usize),
}

/// A cache of the lab.
#[derive(Copy, Clone)]
pub(super) struct CacheEntry {
    pub(super) cache: CacheRef,
    pub(super) size: usize,
    /// Objects that live, and calls under way.
    pub(super) users: usize,
    pub(super) open: bool,
}

/// A machine under test.
pub struct Lab {
    sim: Sim,
    mm: Mm<SimPlatform>,
    owners: RefCell<Owners>,
    mailbox: RefCell<VecDeque<Block>>,
    pub(super) handler_rng: RefCell<Rng>,
    pub(super) caches: RefCell<Vec<CacheEntry>>,
    refused: Cell<u64>,
    marks: RefCell<BTreeMap<&'static str, u64>>,
    pages_at_start: Cell<usize>,
}

impl Lab {
    /// A machine of so many bytes on which every CPU has worked once.
    pub fn new(sim: &Sim, bytes: usize) -> Rc<Lab> {
        Lab::with_nodes(sim, bytes, 1, 0)
    }

    /// [`Lab::new`] with so many nodes, and bytes that can be plugged in.
    pub(super) fn with_nodes(sim: &Sim, bytes: usize, nodes: u8, plug_bytes: usize) -> Rc<Lab> {
        let mm = sim.boot_with_plug(bytes, nodes, plug_bytes);
        let lab = Lab {
            sim: sim.clone(),
            mm,
            owners: RefCell::default(),
            mailbox: RefCell::default(),
            handler_rng: RefCell::new(Rng::stream(sim.seed(), 2)),
            caches: RefCell::default(),
            refused: Cell::new(0),
            marks: RefCell::default(),
            pages_at_start: Cell::new(0),
        };
        lab.touch_all_cpus();
        lab.touch_shrinkers();
        lab.start_here();
        Rc::new(lab)
    }

    /// What is in use now stays so.
    pub(super) fn start_here(&self) {
        self.give_back();
        self.pages_at_start.set(self.pages_in_use());
    }

    /// The tables of a CPU are made at its first use.
    fn touch_all_cpus(&self) {
        for cpu in 0..self.mm.platform().nr_cpus() {
            self.sim.act_as(cpu);
            let object = self.mm.kmalloc(1, GFP_KERNEL).expect("an empty machine");
            // SAFETY: not used any more.
            unsafe { self.mm.kfree(object.as_ptr()) };
        }
        self.sim.act_as(0);
    }

    /// The table of shrinkers is made with the first one.
    fn touch_shrinkers(&self) {
        struct Nothing;
        impl Shrinker for Nothing {
            fn count(&self, _: &ShrinkControl) -> Counted {
                Counted::Empty
            }
            fn scan(&self, _: &ShrinkControl) -> Scanned {
                Scanned::Stop
            }
        }
        let reclaim = self.mm.slabs().reclaim();
        let first = reclaim.register_shrinker(&Nothing, Settings::default());
        reclaim.unregister_shrinker(first.expect("an empty machine"));
    }

    /// The run.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// The machine.
    pub fn mm(&self) -> &Mm<SimPlatform> {
        &self.mm
    }

    /// Pages that are neither free nor kept for good, once all CPUs gave back what they keep: the
    /// descriptors of vmalloc stay, and the slots of pages on lists.
    fn pages_in_use(&self) -> usize {
        let kept = self.mm.vmalloc_space().vmalloc_counters().pool_pages
            + self.mm.slabs().reclaim().lru_table_pages();
        self.mm.pages().managed_pages() - self.mm.pages().free_page_count() - kept
    }

    /// Memory was given out: notes the owner, and in the trace what it is.
    pub(super) fn own(&self, ptr: *mut u8, bytes: usize, what: &'static str) {
        // SAFETY: the library says that the memory is ours.
        unsafe { self.owners.borrow_mut().own(ptr, bytes, what) };
        let frame = match self.mm.is_vmalloc_addr(ptr.addr()) {
            true => self.mm.vmalloc_to_pfn(ptr.addr()),
            false => self.mm.virt_to_pfn(ptr.addr()),
        };
        let frame = frame.expect("memory of the machine").0 as u64;
        self.sim.note(frame << 12 | (ptr.addr() % PAGE_SIZE) as u64);
    }

    /// A request was refused.
    pub(super) fn refused(&self) {
        self.refused.set(self.refused.get() + 1);
        self.sim.note(u64::MAX);
    }

    /// Something happened so many times that is worth to be seen in the sum of many runs.
    pub(super) fn mark(&self, what: &'static str, times: u64) {
        *self.marks.borrow_mut().entry(what).or_default() += times;
    }

    /// Something took so long; of all times the longest counts.
    pub(super) fn mark_most(&self, what: &'static str, steps: u64) {
        let mut marks = self.marks.borrow_mut();
        let most = marks.entry(what).or_default();
        *most = steps.max(*most);
    }

    /// What happened, and how often.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.marks.borrow().clone()
    }

    /// Memory went out of the machine: writes a pattern, and notes that it is somebody else's.
    ///
    /// # Panics
    /// If somebody has a byte of it.
    pub(super) fn own_outside(&self, first: Pfn, bytes: usize, what: &'static str) {
        let ptr = self.mm.platform().direct_map().ptr(first.phys());
        // SAFETY: RAM that the machine does not know, or not any more.
        unsafe { self.owners.borrow_mut().own(ptr, bytes, what) };
        self.sim.note(first.0 as u64);
    }

    /// Memory is about to come into the machine: looks at the pattern, and writes zeroes.
    ///
    /// # Panics
    /// If somebody has written to it.
    pub(super) fn let_in(&self, first: Pfn, bytes: usize) {
        let ptr = self.mm.platform().direct_map().ptr(first.phys());
        assert_eq!(self.disown(ptr), bytes);
        // SAFETY: as in `own_outside`.
        unsafe { ptr.write_bytes(0, bytes) };
    }

    /// Memory is about to be given back.
    pub(super) fn disown(&self, ptr: *mut u8) -> usize {
        // SAFETY: whoever gives memory back has it.
        unsafe { self.owners.borrow_mut().disown(ptr) }
    }

    /// Resizes memory by `resize`; what it answers is the new place, if there is one.
    pub(super) fn resize(
        &self,
        old: *mut u8,
        size: usize,
        what: &'static str,
        resize: impl FnOnce() -> Option<*mut u8>,
    ) -> *mut u8 {
        // Others may be given the old place before the call returns.
        let lent = self.owners.borrow_mut().lend(old);
        let Some(new) = resize() else {
            self.owners.borrow_mut().back(lent);
            self.refused();
            return old;
        };
        // SAFETY: as above; `new` was given out.
        unsafe { self.owners.borrow_mut().moved(lent, new, size) };
        self.own(new, size, what);
        new
    }

    /// The owner of a block of pages has moved it: the content is there too.
    pub(super) fn moved(&self, from: Block, to: Block) {
        let (from, to) = (self.address(from), self.address(to));
        let lent = self.owners.borrow_mut().lend(from);
        let (bytes, what) = lent.about();
        // SAFETY: both blocks are the owner's.
        unsafe { self.owners.borrow_mut().moved(lent, to, bytes) };
        self.own(to, bytes, what);
    }

    /// Looks at memory that somebody has.
    pub(super) fn look(&self, ptr: *mut u8) {
        // SAFETY: somebody has it.
        unsafe { self.owners.borrow().look(ptr) };
    }

    /// Puts memory where others find it.
    pub fn post(&self, block: Block) {
        self.mailbox.borrow_mut().push_back(block);
    }

    /// Takes what somebody posted.
    pub fn receive(&self) -> Option<Block> {
        self.mailbox.borrow_mut().pop_front()
    }

    /// How much is posted.
    pub fn posted(&self) -> usize {
        self.mailbox.borrow().len()
    }

    pub(super) fn address(&self, block: Block) -> *mut u8 {
        match block {
            Block::Pages(pfn, _) | Block::Contig(pfn, _) | Block::Cma(_, pfn, _) => {
                self.mm.page_address(pfn).as_ptr()
            }
            Block::Exact(ptr, _)
            | Block::Object(ptr)
            | Block::OfCache(_, ptr)
            | Block::Area(ptr)
            | Block::Either(ptr) => ptr,
        }
    }

    /// Gives memory back; in any context.
    pub fn free(&self, block: Block) {
        let ptr = self.address(block);
        self.disown(ptr);
        let mm = &self.mm;
        // SAFETY: it had an owner, and has none now.
        unsafe {
            match block {
                Block::Pages(pfn, order) => mm.free_frames(pfn, order),
                Block::Exact(ptr, bytes) => mm.free_pages_exact(ptr, bytes),
                Block::Object(ptr) => mm.kfree(ptr),
                Block::OfCache(number, ptr) => {
                    let cache = self.caches.borrow()[number].cache;
                    mm.kmem_cache_free(cache, ptr);
                    self.caches.borrow_mut()[number].users -= 1;
                }
                Block::Area(ptr) => mm.vfree(ptr),
                Block::Either(ptr) => mm.kvfree(ptr),
                Block::Contig(pfn, pages) => mm.free_contig_range(pfn, pages),
                Block::Cma(id, pfn, pages) => assert!(mm.cma_release(id, pfn, pages)),
            }
        }
    }

    /// It is given up: the library frees it.
    pub(super) fn hand_over(&self, block: Block) {
        self.disown(self.address(block));
    }

    /// Nobody has it any more, and it is not given back: a mistake.
    pub(super) fn lose(&self, block: Block) {
        self.disown(self.address(block));
    }

    /// All CPUs give back what they keep.
    pub(super) fn give_back(&self) {
        let aliases = self.mm.vmalloc_space().vm_unmap_aliases();
        aliases.expect("nobody is inside");
        self.mm.slabs().shrink_all();
        self.mm.pages().drain_all();
    }

    /// What every scenario ends with.
    ///
    /// # Panics
    /// If something is not as it should be.
    pub fn end(&self) {
        while let Some(block) = self.receive() {
            self.free(block);
        }
        let caches: Vec<CacheEntry> = self.caches.borrow().clone();
        for entry in caches.iter().filter(|entry| entry.open) {
            assert_eq!(entry.users, 0, "a cache has objects that nobody has");
            let destroyed = self.mm.kmem_cache_destroy(entry.cache);
            assert!(destroyed.is_ok(), "{destroyed:?}");
        }
        assert!(self.owners.borrow().is_empty(), "a task kept memory");
        self.check_books();
        let (given, refused) = (self.owners.borrow().total(), self.refused.get());
        assert!(
            given > 0,
            "nothing was tested; {refused} requests were refused"
        );
    }

    fn check_books(&self) {
        let mm = &self.mm;
        if let Err(error) = mm.verify() {
            panic!("before memory is given back: {error:?}");
        }
        self.give_back();
        if let Err(error) = mm.verify() {
            panic!("after memory was given back: {error:?}");
        }
        let reports = mm.platform().reports();
        assert!(reports.is_empty(), "reported: {reports:#?}");
        assert_eq!(mm.pages().cached_page_count(), 0);
        assert_eq!(mm.platform().mapped_pages(), 0, "areas that nobody has");
        let (in_use, at_start) = (self.pages_in_use(), self.pages_at_start.get());
        assert!(
            in_use == at_start,
            "{in_use} pages are in use, {at_start} were at the start: {}",
            self.kinds()
        );
    }

    /// What the frames in use are.
    fn kinds(&self) -> String {
        let pages = self.mm.pages();
        let mut counts = [0usize; 16];
        for (_, zone) in pages.zone_frames() {
            for pfn in (zone.start.0..zone.end.0).map(Pfn) {
                if !pages.is_free(pfn) {
                    counts[pages.frames().get(pfn).kind() as usize] += 1;
                }
            }
        }
        let kinds = [FrameKind::Page, FrameKind::Slab, FrameKind::LargeKmalloc];
        let shown = kinds.map(|kind| format!("{kind:?} {}", counts[kind as usize]));
        shown.join(", ")
    }
}
