//! Memory that is added while the machine runs.

use super::chain::{Chain, TRY};
use super::fixture::{Ledger, Wrong, kmalloc, machine_has};
use super::threads::on_all_cpus;
use crate::boot::dimms;
use crate::memory::mm;
use crate::sched::Mutex;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::AddMemoryError;

super::tests! { "hotplug":
    memory_is_added_while_all_cpus_allocate,
    added_memory_serves_like_any_other,
    what_is_there_is_not_added_again,
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
