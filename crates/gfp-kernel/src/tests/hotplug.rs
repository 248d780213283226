//! Memory that is added while the machine runs, and blocks of it that go and come back.

use super::chain::{Chain, TRY};
use super::fixture::{Ledger, Object, Wrong, free_all, kmalloc, machine_has, settle, zones};
use super::threads::on_all_cpus;
use crate::boot::dimms;
use crate::memory::mm;
use crate::sched::Mutex;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use gfp::flags::GFP_KERNEL;
use gfp::frame::{PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use gfp::page::{
    AddMemoryError, BootConfig, ContigError, IsolateError, MemoryAnswer, MemoryEvent,
    RemoveMemoryError, RemovedMemory, ZoneStats,
};

super::tests! { "hotplug":
    memory_is_added_while_all_cpus_allocate,
    added_memory_serves_like_any_other,
    what_is_there_is_not_added_again,
    a_block_goes_and_comes_back_while_all_cpus_allocate,
    a_block_that_must_stay_is_as_before,
}

/// The frames of a module that was added; the first test that asks adds it.
static MODULE: Mutex<Option<Range<Pfn>>> = Mutex::new(None);

/// Adds the modules that are new. The frames of one, if there ever was one.
fn module() -> Option<Range<Pfn>> {
    let mut module = MODULE.lock();
    for added in dimms::add_new() {
        let span = added.dimm.span;
        let (start, end) = (span.start.pfn(), span.end.pfn());
        let pages = added.result.expect("a module is memory");
        assert_eq!(pages, end.0 - start.0, "all of it is used");
        *module = Some(start..end);
    }
    machine_has("a memory module", module.is_some());
    module.clone()
}

/// How many of these frames are among those of the module.
fn inside(module: &Range<Pfn>, chain: &Chain) -> usize {
    chain.frames().filter(|pfn| module.contains(pfn)).count()
}

fn memory_is_added_while_all_cpus_allocate() {
    // P514, P516
    let books = Ledger::open();
    let before = mm().pages().managed_pages();
    let done = AtomicBool::new(false);
    let mut pages = 0;
    let first = Mutex::new(&mut pages);
    on_all_cpus(|cpu| {
        if cpu == 0 {
            if let Some(module) = module() {
                **first.lock() = module.end.0 - module.start.0;
            }
            return done.store(true, Relaxed);
        }
        while !done.load(Relaxed) {
            let objects = [16, 300, 4096, 30_000].map(kmalloc);
            Wrong::Content.unless(objects.iter().all(|o| !o.ptr().is_null()));
        }
    });
    let grown = mm().pages().managed_pages() - before;
    // Another test may have been first.
    assert!(grown == pages || grown == 0, "{grown} of {pages} pages");
    books.close_with(grown);
}

fn added_memory_serves_like_any_other() {
    // P516
    let Some(module) = module() else { return };
    let books = Ledger::open();
    let (held, _) = Chain::pages(TRY, 9);
    let got = inside(&module, &held);
    // Its first page in each block was written; the rest can be too.
    for pfn in held.frames().filter(|pfn| module.contains(pfn)) {
        let last = mm()
            .page_address(pfn)
            .as_ptr()
            .wrapping_add((PAGE_SIZE << 9) - 8);
        // SAFETY: ours.
        unsafe { last.cast::<u64>().write_volatile(1) }
    }
    held.free_pages(9);
    let blocks = (module.end.0 - module.start.0) >> 9;
    assert!(got * 10 >= blocks * 9, "{got} of {blocks} blocks");
    books.close();
}

fn what_is_there_is_not_added_again() {
    // P514
    let Some(module) = module() else { return };
    let books = Ledger::open();
    let add = |first: Pfn, end: Pfn| {
        // SAFETY: refused.
        unsafe { mm().add_memory(first.phys(), end.phys()) }.map(|added| added.pages)
    };
    let again = add(module.start, module.end);
    assert!(
        matches!(again, Err(AddMemoryError::AlreadyPresent { .. })),
        "{again:?}"
    );
    let none = add(module.start, module.start);
    assert_eq!(none, Err(AddMemoryError::Empty));
    let odd = add(module.start.add(1), module.end);
    assert!(
        matches!(odd, Err(AddMemoryError::Unaligned { .. })),
        "{odd:?}"
    );
    assert!(dimms::add_new().is_empty(), "there is nothing new");
    books.close();
}

/// The memory blocks of the module, the last first.
fn blocks(module: &Range<Pfn>) -> impl Iterator<Item = Range<Pfn>> {
    let pages = BootConfig::default().memory_block_bytes as usize / PAGE_SIZE;
    let n = (module.end.0 - module.start.0) / pages;
    let start = module.start;
    (0..n)
        .rev()
        .map(move |i| start.add(i * pages)..start.add((i + 1) * pages))
}

/// Takes a block out. Returns what was told meanwhile as well, the last thing first.
fn remove(
    block: &Range<Pfn>,
    answer: MemoryAnswer,
) -> (
    Result<RemovedMemory, RemoveMemoryError>,
    [Option<MemoryEvent>; 2],
) {
    let mut heard = [None; 2];
    let (start, end) = (block.start.phys(), block.end.phys());
    let removed = mm().remove_memory(start, end, &mut |event| {
        heard = [Some(event), heard[0]];
        answer
    });
    (removed, heard)
}

/// Puts a block back that was taken out.
fn bring_back(block: &Range<Pfn>) {
    // SAFETY: RAM of a module, which the machine does not use any more.
    let added = unsafe { mm().add_memory(block.start.phys(), block.end.phys()) };
    let pages = added.expect("it is absent").pages;
    assert_eq!(pages, block.end.0 - block.start.0);
}

/// Takes out a block of the module, whichever may go: tasks that ended may have left memory in
/// one that is kept for ever. Handlers may be in the way of an attempt.
fn take_one_out(module: &Range<Pfn>) -> Range<Pfn> {
    let tried = (0..100).flat_map(|_| blocks(module));
    let mut gone = tried.filter(|block| remove(block, MemoryAnswer::Agreed).0.is_ok());
    gone.next().expect("a block that may go")
}

/// The first word of each pageblock of a memory block that is out.
fn words(block: &Range<Pfn>) -> impl Iterator<Item = *mut usize> {
    let map = mm().pages().direct_map();
    let starts = (block.start.0..block.end.0).step_by(PAGEBLOCK_PAGES);
    starts.map(move |pfn| map.ptr(Pfn(pfn).phys()).cast())
}

/// Writes to a block that is out, lets others work, and looks whether one of them wrote to it.
fn nobody_has_it(block: &Range<Pfn>) -> bool {
    // SAFETY: RAM that nobody else uses.
    words(block).for_each(|word| unsafe { word.write_volatile(word.addr()) });
    (0..10).for_each(|_| crate::sched::yield_now());
    // SAFETY: as above.
    words(block).all(|word| unsafe { word.read_volatile() } == word.addr())
}

fn a_block_goes_and_comes_back_while_all_cpus_allocate() {
    // P514, P516, P517
    let Some(module) = module() else { return };
    let books = Ledger::open();
    let before = mm().pages().managed_pages();
    let block = take_one_out(&module);
    let pages = block.end.0 - block.start.0;
    assert_eq!(mm().pages().managed_pages(), before - pages);
    let done = AtomicBool::new(false);
    on_all_cpus(|cpu| {
        let mut is_out = true;
        for _ in 0..if cpu == 0 { 5 } else { 0 } {
            Wrong::GivenTwice.unless(!is_out || nobody_has_it(&block));
            if is_out {
                bring_back(&block);
            }
            // What others have in it may be in the way.
            is_out = remove(&block, MemoryAnswer::Agreed).0.is_ok();
        }
        if cpu == 0 {
            return done.store(true, Relaxed);
        }
        while !done.load(Relaxed) {
            let objects = [16, 300, 4096, 30_000, 2 << 20].map(kmalloc);
            for object in &objects {
                // SAFETY: ours, and a word at least.
                unsafe { object.ptr().cast::<usize>().write(object.ptr().addr()) }
            }
            crate::sched::yield_now();
            // SAFETY: as above.
            let read = |object: &Object| unsafe { object.ptr().cast::<usize>().read() };
            Wrong::Content.unless(objects.iter().all(|o| read(o) == o.ptr().addr()));
        }
    });
    if mm().pages().managed_pages() < before {
        bring_back(&block);
    }
    assert_eq!(mm().pages().managed_pages(), before);
    books.close();
}

/// What may not change when memory stays: of the zone of a block, its extent, what is free by type,
/// and the types of its pageblocks.
fn shown(block: &Range<Pfn>) -> impl PartialEq + core::fmt::Debug {
    let of =
        |zone: &ZoneStats| zone.start <= block.start && block.end.0 <= zone.start.0 + zone.spanned;
    let zone = zones().find(of).expect("it is there");
    let sizes = (zone.present, zone.managed, zone.watermarks);
    (sizes, zone.free, zone.nr_free, zone.blocks_by_type)
}

fn a_block_that_must_stay_is_as_before() {
    // P517, P518, P970
    let Some(module) = module() else { return };
    let books = Ledger::open();
    let block = take_one_out(&module);
    bring_back(&block);
    let at = block.start.add(1234);
    let taken = (0..100).any(|_| mm().alloc_contig_range(at..at.add(1), GFP_KERNEL).is_ok());
    assert!(taken, "all of it was free");
    {
        let _quiet = settle();
        let before = shown(&block);
        let (removed, heard) = remove(&block, MemoryAnswer::Agreed);
        let stays = matches!(
            removed,
            Err(RemoveMemoryError::Contig(ContigError::Isolate(
                IsolateError::Unmovable { .. }
            )))
        );
        assert!(stays && heard == [None; 2], "{removed:?} {heard:?}");
        mm().pages().drain_all();
        assert!(shown(&block) == before, "it is as before");
    }
    free_all(&[at], 0);
    let cancelled = [MemoryEvent::CancelOffline, MemoryEvent::GoingOffline].map(Some);
    // Handlers may be in the way before anybody is asked.
    let refused = (0..100).map(|_| remove(&block, MemoryAnswer::Refused));
    let mut asked = refused.filter(|(_, heard)| heard[0].is_some());
    let answer = asked.next().expect("it is asked");
    assert_eq!(answer, (Err(RemoveMemoryError::Refused), cancelled));
    books.close();
}
