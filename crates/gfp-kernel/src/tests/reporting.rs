//! Free memory is told to a device, as to a hypervisor, while all CPUs allocate.

use super::fixture::{Ledger, Object, Wrong, kmalloc};
use super::threads::on_all_cpus;
use crate::memory::mm;
use crate::sched;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use gfp::frame::{Order, PAGE_SIZE, Pfn};
use gfp::page::{PageReporting, Reported, ReportingDevice, ReportingError};
use gfp::platform::FrameRun;

super::tests! { "reporting":
    what_is_told_is_nobodys_while_all_cpus_allocate,
}

/// Refuses its third report; writes to what it is told of.
#[derive(Default)]
struct Device {
    reports: usize,
    /// Pages that it took.
    taken: usize,
}

/// The first and the last word of a block.
fn words(block: &FrameRun) -> [*mut usize; 2] {
    let start = mm().page_address(block.first).as_ptr();
    [0, block.pages * PAGE_SIZE - size_of::<usize>()].map(|at| start.wrapping_add(at).cast())
}

impl ReportingDevice for Device {
    fn report(&mut self, blocks: &[FrameRun]) -> Reported {
        let pages = blocks[0].pages;
        let whole = |b: &FrameRun| b.pages == pages && b.first.0.is_multiple_of(pages);
        Wrong::Other.unless(pages >= Order::PAGEBLOCK.pages() && blocks.iter().all(whole));
        let free = |pfn: Pfn| mm().pages().is_free(pfn);
        Wrong::Other.unless(!blocks.iter().any(|b| free(b.first)));
        for word in blocks.iter().flat_map(words) {
            // SAFETY: nobody has the block until this returns.
            unsafe { word.write_volatile(!word.addr()) }
        }
        (0..4).for_each(|_| sched::yield_now());
        for word in blocks.iter().flat_map(words) {
            // SAFETY: as above.
            Wrong::GivenTwice.unless(unsafe { word.read_volatile() } == !word.addr());
        }
        self.reports += 1;
        if self.reports == 3 {
            return Reported::Refused;
        }
        self.taken += blocks.len() * pages;
        Reported::Taken
    }
}

/// Waits until a tick is due, and lets it be. Returns the pages that were told.
fn next_tick(reporting: &mut PageReporting<'_, crate::platform::Machine, Device>) -> usize {
    if let Some(due) = reporting.due_ns() {
        let now = crate::arch::time::now_ns();
        sched::sleep_ns(due.saturating_sub(now) + 1);
    }
    reporting.tick()
}

fn what_is_told_is_nobodys_while_all_cpus_allocate() {
    // P520, P521
    let books = Ledger::open();
    let reporting = mm().register_reporting(Device::default(), None);
    let mut reporting = reporting.expect("there is no other");
    let other = mm().register_reporting(Device::default(), None).err();
    assert_eq!(other, Some(ReportingError::Busy));
    assert_eq!(reporting.tick(), 0, "the first tick notices");
    let done = AtomicBool::new(false);
    let told = sched::Mutex::new(0);
    let shared = sched::Mutex::new(&mut reporting);
    on_all_cpus(|cpu| {
        if cpu == 0 {
            *told.lock() = next_tick(&mut shared.lock());
            return done.store(true, Relaxed);
        }
        while !done.load(Relaxed) {
            let objects = [300, 4096, 30_000, 2 << 20, 4 << 20].map(kmalloc);
            for object in &objects {
                // SAFETY: ours, and a word at least.
                unsafe { object.ptr().cast::<usize>().write(object.ptr().addr()) }
            }
            sched::yield_now();
            // SAFETY: as above.
            let read = |object: &Object| unsafe { object.ptr().cast::<usize>().read() };
            Wrong::Content.unless(objects.iter().all(|o| read(o) == o.ptr().addr()));
        }
    });
    let told = *told.lock();
    assert_eq!(told, reporting.device().taken);
    // What was refused, or used meanwhile, is told in a later round.
    let again = next_tick(&mut reporting);
    assert_eq!(told + again, reporting.device().taken);
    assert!(told != 0 && reporting.device().reports != 0);
    drop(reporting);
    books.close();
}
