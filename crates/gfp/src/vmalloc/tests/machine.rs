//! A machine with simulated page tables and a TLB that forgets nothing before it is flushed (V21).
//!
//! Each page that is unmapped counts as remembered by some CPU until `flush`; mapping another frame
//! there before is a panic. Mapped pages are memory of the window, filled with garbage when mapped
//! and with other garbage when unmapped, so that stale or unzeroed content is seen.

use crate::flags::{GFP_ATOMIC, Gfp};
use crate::frame::{CpuId, NodeId, Order, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::{BootConfig, MemoryRegion, PageAllocator, PageRequest};
use crate::platform::{
    Context, DirectMap, FrameRun, MapError, Mapped, Nested, Paging, Platform, Protection,
};
use crate::report::{Caller, Report};
use crate::slab::Slabs;
use crate::testing::{TestPlatform, TestSection, region};
use crate::vmalloc::{AreaView, Vmalloc};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::{HashMap, HashSet};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::vec::Vec;

/// What a page contains when it is mapped, and after it was unmapped.
pub(super) const FRESH: u8 = 0xaa;
const GONE: u8 = 0xdd;

#[derive(Default)]
pub(super) struct Tables {
    /// Page number in the window -> frame.
    pub(super) mapped: HashMap<usize, Pfn>,
    frames: HashSet<Pfn>,
    /// Pages that a TLB may remember.
    pub(super) stale: HashSet<usize>,
    /// Stretches that were flushed: first page, pages.
    pub(super) flushed: Vec<(usize, usize)>,
    /// Calls that asked for a flush, of one range or many.
    pub(super) flushes: usize,
    /// Runs of the last mapping.
    pub(super) runs: Vec<FrameRun>,
    /// Parts of the window that have a page table.
    tables: HashSet<usize>,
    /// Mappings to refuse.
    pub(super) refuse: usize,
}

pub(super) struct PagingPlatform {
    pub(super) base: TestPlatform,
    window: NonNull<u8>,
    layout: Layout,
    pub(super) tables: Mutex<Tables>,
    pub(super) context: Mutex<Context>,
    pub(super) answer: Mutex<Mapped>,
}

// SAFETY: the window is reached only as the allocator under test allows.
unsafe impl Sync for PagingPlatform {}
// SAFETY: as above.
unsafe impl Send for PagingPlatform {}

impl PagingPlatform {
    fn new(base: TestPlatform, window_pages: usize) -> PagingPlatform {
        let layout = Layout::from_size_align(window_pages * PAGE_SIZE, 64 * PAGE_SIZE).unwrap();
        // SAFETY: the size is not zero.
        let window = NonNull::new(unsafe { alloc(layout) }).unwrap();
        PagingPlatform {
            base,
            window,
            layout,
            tables: Mutex::default(),
            context: Mutex::new(Context::Task),
            answer: Mutex::new(Mapped::Content),
        }
    }

    fn page(&self, at: usize) -> usize {
        assert!(at.is_multiple_of(PAGE_SIZE));
        (at - self.window.addr().get()) >> PAGE_SHIFT
    }

    /// The frame that is mapped at an address.
    pub(super) fn translate(&self, at: usize) -> Option<Pfn> {
        let page = self.page(at & !(PAGE_SIZE - 1));
        self.tables.lock().unwrap().mapped.get(&page).copied()
    }
}

impl Drop for PagingPlatform {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.window.as_ptr(), self.layout) };
    }
}

// SAFETY: as `TestPlatform`, which does all of it.
unsafe impl Platform for PagingPlatform {
    type Section<'a> = TestSection<'a>;

    fn direct_map(&self) -> DirectMap {
        self.base.direct_map()
    }

    fn nr_cpus(&self) -> u32 {
        self.base.nr_cpus()
    }

    fn enter(&self) -> Result<(CpuId, TestSection<'_>), Nested> {
        self.base.enter()
    }

    fn enter_remote(&self, cpu: CpuId) -> Option<TestSection<'_>> {
        self.base.enter_remote(cpu)
    }

    fn context(&self) -> Context {
        *self.context.lock().unwrap()
    }

    fn now_ns(&self) -> u64 {
        self.base.now_ns()
    }

    fn relax(&self, spins: u32) {
        self.base.relax(spins);
    }

    fn report(&self, report: &Report<'_>) {
        self.base.report(report);
    }
}

// SAFETY: the window is heap memory of our own; a page of it is written by us only while it changes
// between mapped and unmapped. Unmapped pages do not fault: the tests look at `tables` instead.
unsafe impl Paging for PagingPlatform {
    fn vmalloc_range(&self) -> (NonNull<u8>, usize) {
        (self.window, self.layout.size())
    }

    unsafe fn map(
        &self,
        at: NonNull<u8>,
        runs: &mut dyn Iterator<Item = FrameRun>,
        _protection: Protection,
        table: &mut dyn FnMut() -> Option<Pfn>,
    ) -> Result<Mapped, MapError> {
        let runs: Vec<FrameRun> = runs.collect();
        let mut tables = self.tables.lock().unwrap();
        if tables.refuse > 0 {
            tables.refuse -= 1;
            return Err(MapError::NoMemory);
        }
        let first = self.page(at.addr().get());
        let pages: usize = runs.iter().map(|r| r.pages).sum();
        for part in first / 512..=(first + pages - 1) / 512 {
            if !tables.tables.contains(&part) {
                table().ok_or(MapError::NoMemory)?;
                tables.tables.insert(part);
            }
        }
        let frames = runs
            .iter()
            .flat_map(|r| (0..r.pages).map(|i| r.first.add(i)));
        for (i, pfn) in frames.enumerate() {
            let page = first + i;
            assert!(
                !tables.stale.contains(&page),
                "V17: page {page} mapped before its flush"
            );
            assert!(tables.frames.insert(pfn), "{pfn} is mapped twice");
            assert!(
                tables.mapped.insert(page, pfn).is_none(),
                "page {page} is mapped"
            );
        }
        assert!(tables.mapped.len() == tables.frames.len());
        tables.runs = runs;
        let answer = *self.answer.lock().unwrap();
        let byte = if answer == Mapped::Zeroed { 0 } else { FRESH };
        // SAFETY: inside the window; the caller owns these pages.
        unsafe { at.write_bytes(byte, pages * PAGE_SIZE) };
        Ok(answer)
    }

    unsafe fn unmap(&self, at: NonNull<u8>, pages: usize) {
        let mut tables = self.tables.lock().unwrap();
        let first = self.page(at.addr().get());
        for page in first..first + pages {
            let pfn = tables
                .mapped
                .remove(&page)
                .expect("only what is mapped is unmapped");
            assert!(tables.frames.remove(&pfn));
            tables.stale.insert(page);
        }
        // SAFETY: inside the window; nobody uses these pages any more.
        unsafe { at.write_bytes(GONE, pages * PAGE_SIZE) };
    }

    fn flush(&self, at: NonNull<u8>, pages: usize) {
        let mut tables = self.tables.lock().unwrap();
        let first = self.page(at.addr().get());
        (first..first + pages).for_each(|page| {
            tables.stale.remove(&page);
        });
        tables.flushed.push((first, pages));
    }

    fn flush_ranges(&self, ranges: &mut dyn Iterator<Item = (NonNull<u8>, usize)>) {
        ranges.for_each(|(at, pages)| self.flush(at, pages));
        self.tables.lock().unwrap().flushes += 1;
    }

    fn aliases_frames(&self) -> bool {
        false
    }
}

pub(super) type Vm = Vmalloc<PagingPlatform>;

pub(super) const HERE: Caller = Caller::Address(0x1234);

/// A machine with `mib` MiB of RAM in one zone and a window of `window_pages`.
pub(super) fn machine(mib: usize, window_pages: usize) -> Vm {
    let start = 4u64 << 30;
    machine_with(&[region(start, start + ((mib as u64) << 20))], window_pages)
}

/// A machine with these regions.
pub(super) fn machine_with(map: &[MemoryRegion], window_pages: usize) -> Vm {
    let (first, last) = (map[0].start.0, map[map.len() - 1].end.0);
    let platform = TestPlatform::new(first, (last - first) as usize);
    let platform = PagingPlatform::new(platform, window_pages);
    let config = BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    };
    let pages = PageAllocator::boot(platform, map, &config).unwrap();
    Vmalloc::boot(Slabs::boot(pages).unwrap())
}

/// A machine with 16 MiB of ZONE_DMA32 below 4 GiB and 16 MiB of ZONE_NORMAL on another node above.
pub(super) fn two_nodes(window_pages: usize) -> Vm {
    let border = 4u64 << 30;
    let low = region(border - (16 << 20), border);
    let high = MemoryRegion {
        node: NodeId(1),
        ..region(border, border + (16 << 20))
    };
    let vm = machine_with(&[low, high], window_pages);
    assert!(PhysAddr(border).pfn() > low.start.pfn());
    vm
}

impl Vm {
    pub(super) fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.platform().tables.lock().unwrap()
    }

    pub(super) fn areas(&self) -> Vec<AreaView> {
        let mut areas = Vec::new();
        self.for_each_area(&mut |area| areas.push(*area)).unwrap();
        areas
    }

    pub(super) fn live(&self) -> Vec<AreaView> {
        self.areas().into_iter().filter(|a| a.live).collect()
    }

    pub(super) fn on_context(&self, context: Context) {
        *self.platform().context.lock().unwrap() = context;
    }

    pub(super) fn free(&self, ptr: NonNull<u8>) -> Result<(), crate::report::Misuse> {
        // SAFETY: the tests give up what they free.
        unsafe { self.vfree(ptr.as_ptr(), HERE) }
    }

    /// Everything that must always hold: our own checks, those of the pages below, and what the
    /// page tables show: each area mapped to its frames, nothing else mapped, guards least of all
    /// (V2).
    pub(super) fn check(&self) {
        self.verify().unwrap();
        self.slabs().verify().unwrap();
        self.pages().verify().unwrap();
        let areas = self.live();
        let window = self.platform().vmalloc_range().0.addr().get();
        for area in &areas {
            for index in 0..area.pages {
                let at = area.start + index * PAGE_SIZE;
                assert_eq!(self.platform().translate(at), self.vmalloc_to_pfn(at));
                assert!(self.vmalloc_to_pfn(at).is_some());
            }
            let guard = area.start + area.size - PAGE_SIZE;
            assert!(area.pages * PAGE_SIZE < area.size && guard >= window);
            assert_eq!(self.platform().translate(guard), None, "V2");
            assert_eq!(self.vmalloc_to_pfn(guard), None, "V2");
        }
        let pages: usize = areas.iter().map(|a| a.pages).sum();
        assert_eq!(self.tables().mapped.len(), pages);
        assert_eq!(self.vmalloc_counters().pages, pages);
    }

    /// Frees all areas and checks that every page came back but those kept for descriptors and page
    /// tables. `before`: pages in use before the first allocation.
    pub(super) fn check_nothing_leaks(&self, before: usize) {
        self.purge();
        let kept = self.vmalloc_counters();
        assert_eq!(kept.areas, 0);
        assert_eq!(
            self.used_pages(),
            before + kept.pool_pages + kept.table_pages
        );
    }

    /// Pages that are neither free nor cached, nor slabs without objects. The caches themselves are
    /// made at the first call.
    pub(super) fn used_pages(&self) -> usize {
        self.slabs().shrink_all();
        let free = self.pages().free_page_count() + self.pages().cached_page_count();
        self.pages().managed_pages() - free
    }
}

/// Fills memory with a pattern that depends on `tag`.
pub(super) fn fill(ptr: NonNull<u8>, bytes: usize, tag: u8) {
    for i in (0..bytes).step_by(61) {
        // SAFETY: the tests fill what they own.
        unsafe { ptr.add(i).write(tag.wrapping_add((i >> 6) as u8)) };
    }
}

/// Checks what `fill` wrote.
pub(super) fn assert_filled(ptr: NonNull<u8>, bytes: usize, tag: u8) {
    for i in (0..bytes).step_by(61) {
        // SAFETY: the tests read what they own.
        let byte = unsafe { ptr.add(i).read() };
        assert_eq!(byte, tag.wrapping_add((i >> 6) as u8), "byte {i}");
    }
}

/// The bytes of an area.
pub(super) fn bytes(ptr: NonNull<u8>, range: std::ops::Range<usize>) -> Vec<u8> {
    // SAFETY: the tests read what they own.
    range.map(|i| unsafe { ptr.add(i).read() }).collect()
}

/// Takes all pages singly and frees every `nth` of them (none if 0), so that no block larger than a
/// page is left.
pub(super) fn fragment(vm: &Vm, nth: usize) -> Vec<Pfn> {
    vm.slabs().shrink_all();
    vm.pages().drain_all();
    // The reserves too, or large blocks stay in them.
    let request = PageRequest::new(GFP_ATOMIC.with(Gfp::MEMALLOC), Order::ZERO);
    let all = std::iter::from_fn(|| vm.pages().alloc(&request).ok());
    let is_free = |pfn: &Pfn| nth > 0 && pfn.0.is_multiple_of(nth);
    let (free, kept): (Vec<Pfn>, Vec<Pfn>) = all.partition(is_free);
    for pfn in free {
        // SAFETY: taken above.
        unsafe { vm.pages().free(pfn, Order::ZERO) }.unwrap();
    }
    kept
}
