//! Mapping and forgetting on several CPUs at once.

use super::threads::on_all_cpus;
use crate::arch::{DIRECT_MAP, cpu, smp};
use crate::memory::mm;
use crate::paging::fault::try_read;
use crate::paging::shootdown::{self, FEW};
use crate::paging::{self, OWN};
use crate::sched::Barrier;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed};
use gfp::flags::GFP_KERNEL;
use gfp::frame::{PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr};
use gfp::platform::{FrameRun, Protection};

super::tests! { "shootdown":
    no_cpu_reads_a_page_that_was_freed_and_used_again,
    after_a_flush_no_cpu_remembers_a_page,
    cpus_that_flush_with_interrupts_off_do_not_wait_for_each_other,
    cpus_that_need_the_same_table_share_it,
    a_mapping_that_fails_leaves_nothing,
    a_read_only_page_can_be_read,
    all_cpus_allocate_free_purge_and_drain,
}

/// A page of the test's own, filled with a byte; where the direct map shows it.
struct Page(usize);

impl Page {
    fn new(byte: u8) -> Page {
        let at = mm().get_free_pages(GFP_KERNEL, 0).expect("memory is there");
        // SAFETY: ours.
        unsafe { at.write_bytes(byte, PAGE_SIZE) }
        Page(at.as_ptr().expose_provenance())
    }

    fn run(&self) -> FrameRun {
        FrameRun {
            first: PhysAddr((self.0 - DIRECT_MAP) as u64).pfn(),
            pages: 1,
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: ours, and not mapped elsewhere any more.
        unsafe { mm().free_pages(core::ptr::with_exposed_provenance_mut(self.0), 0) }
    }
}

fn table() -> Option<Pfn> {
    let at = mm().get_zeroed_page(GFP_KERNEL).ok()?;
    Some(PhysAddr((at.as_ptr().addr() - DIRECT_MAP) as u64).pfn())
}

/// Maps pages in the kernel's own window.
fn map(at: usize, pages: &[Page]) {
    let runs = &mut pages.iter().map(Page::run);
    // SAFETY: each test uses addresses of its own, and pages of its own.
    let done = unsafe { paging::map(at, runs, Protection::ReadWrite, &mut table) };
    done.expect("memory is there");
}

fn unmap(at: usize, pages: usize) {
    // SAFETY: mapped by the same test.
    unsafe { paging::unmap(at, pages) }
}

fn read(addr: usize) -> Option<u8> {
    // SAFETY: memory, or what faults.
    unsafe { try_read(addr) }.ok()
}

fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        core::hint::spin_loop();
    }
}

/// Which round it is, and where the page of this round stands.
struct Board {
    /// 0: between two rounds.
    round: AtomicU64,
    at: AtomicUsize,
    /// Readers that have read it in this round.
    readers: AtomicU32,
    stale: AtomicU32,
}

const ROUNDS: u64 = 200;
const OVER: u64 = ROUNDS + 1;
/// What is written to a page that was freed. No round's byte.
const STALE: u8 = 0xff;

fn byte_of(round: u64) -> u8 {
    round as u8 & 0x7f
}

// V17, V18. Seen to fail: `break=shootdown`.
fn no_cpu_reads_a_page_that_was_freed_and_used_again() {
    let board = Board {
        round: AtomicU64::new(0),
        at: AtomicUsize::new(0),
        readers: AtomicU32::new(0),
        stale: AtomicU32::new(0),
    };
    let again = AtomicU32::new(0);
    on_all_cpus(|cpu| match cpu {
        0 => again.store(write_rounds(&board), Relaxed),
        _ => read_rounds(&board),
    });
    assert_eq!(board.stale.load(Relaxed), 0, "stale bytes were read");
    assert!(again.load(Relaxed) > ROUNDS as u32 / 2, "addresses recur");
}

/// The answer is how often a round used the addresses of the one before.
fn write_rounds(board: &Board) -> u32 {
    let (mut again, mut before) = (0, 0);
    let mut stale = None;
    for round in 1..=ROUNDS {
        let area = mm().vmalloc(PAGE_SIZE).expect("memory is there");
        // SAFETY: ours.
        unsafe { area.write_bytes(byte_of(round), PAGE_SIZE) }
        let at = area.as_ptr().expose_provenance();
        again += u32::from(at == core::mem::replace(&mut before, at));
        board.at.store(at, Relaxed);
        board.readers.store(0, Relaxed);
        // Release: pairs with the Acquire in `read_rounds`.
        board.round.store(round, Ordering::Release);
        wait_for(|| board.readers.load(Ordering::Acquire) == smp::count() - 1);
        board.round.store(0, Relaxed);
        // SAFETY: who still reads it checks the round.
        unsafe { mm().vfree(area.as_ptr()) }
        // Most likely the frame that the area had: whoever remembers it reads this.
        stale = Some(Page::new(STALE));
        mm().vmalloc_space().vm_unmap_aliases().expect("a task");
    }
    drop(stale);
    board.round.store(OVER, Ordering::Release);
    again
}

fn read_rounds(board: &Board) {
    let mut last = 0;
    loop {
        // Acquire: pairs with the Release in `write_rounds`.
        let round = board.round.load(Ordering::Acquire);
        if round == OVER {
            return;
        }
        if round == 0 {
            core::hint::spin_loop();
            continue;
        }
        let byte = read(board.at.load(Relaxed));
        // A fence in effect: the round is looked at after the page.
        if board.round.fetch_add(0, Ordering::AcqRel) != round {
            continue;
        }
        if byte != Some(byte_of(round)) {
            board.stale.fetch_add(1, Relaxed);
        }
        if core::mem::replace(&mut last, round) != round {
            // Release: pairs with the Acquire in `write_rounds`.
            board.readers.fetch_add(1, Ordering::Release);
        }
    }
}

// Few pages one by one, many at once. Seen to fail: `break=shootdown`.
fn after_a_flush_no_cpu_remembers_a_page() {
    let barrier = Barrier::new(smp::count());
    let pages: Vec<Page> = (0..FEW as u8 + 2).map(Page::new).collect();
    let (missed, remembered) = (AtomicU32::new(0), AtomicU32::new(0));
    for count in [1, 2, FEW, FEW + 1, FEW + 2] {
        let all = || (0..count).map(|index| (index as u8, read(OWN + (index << PAGE_SHIFT))));
        map(OWN, &pages[..count]);
        // Who finds something wrong counts it: the others wait at the barrier.
        on_all_cpus(|cpu| {
            let wrong = all().filter(|&(index, byte)| byte != Some(index));
            missed.fetch_add(wrong.count() as u32, Relaxed);
            barrier.wait();
            if cpu == 0 {
                unmap(OWN, count);
                shootdown::flush(OWN, count);
            }
            barrier.wait();
            let wrong = all().filter(|(_, byte)| byte.is_some());
            remembered.fetch_add(wrong.count() as u32, Relaxed);
        });
        assert_eq!(missed.load(Relaxed), 0, "of {count} pages");
        assert_eq!(remembered.load(Relaxed), 0, "of {count} pages");
    }
}

// Seen to hang: without `answer` in the wait.
fn cpus_that_flush_with_interrupts_off_do_not_wait_for_each_other() {
    on_all_cpus(|_| {
        for _ in 0..100 {
            let off = cpu::IrqOff::new();
            shootdown::flush(OWN, 1);
            drop(off);
            shootdown::flush(OWN, 1);
        }
    });
}

// Seen to fail: a store in the place of the compare-and-swap.
fn cpus_that_need_the_same_table_share_it() {
    const GIGABYTE: usize = 1 << 30;
    const PAGES: usize = 8; // of each CPU
    const PLACES: usize = 32;
    let cpus = smp::count() as usize;
    let barrier = Barrier::new(smp::count());
    let (taken, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    on_all_cpus(|cpu| {
        let cpu = cpu as usize;
        let frame = Page::new(cpu as u8);
        let mut table = || {
            taken.fetch_add(1, Relaxed);
            table()
        };
        for place in 1..=PLACES {
            // Nothing was ever mapped in this GiB: a table of each kind is missing. Pages of the
            // CPUs alternate.
            let first = OWN + place * GIGABYTE;
            let at = |page, cpu| first + ((page * cpus + cpu) << PAGE_SHIFT);
            barrier.wait();
            for page in 0..PAGES {
                let run = &mut core::iter::once(frame.run());
                // SAFETY: the pages of each CPU are its own.
                let done =
                    unsafe { paging::map(at(page, cpu), run, Protection::ReadWrite, &mut table) };
                wrong.fetch_add(done.is_err().into(), Relaxed);
            }
            barrier.wait();
            let seen = |page, cpu| read(at(page, cpu)) == Some(cpu as u8);
            let all = (0..PAGES).all(|page| (0..cpus).all(|cpu| seen(page, cpu)));
            wrong.fetch_add((!all).into(), Relaxed);
            barrier.wait();
            (0..PAGES).for_each(|page| unmap(at(page, cpu), 1));
            shootdown::flush_ranges(&mut (0..PAGES).map(|page| (at(page, cpu), 1)));
        }
    });
    assert_eq!(wrong.load(Relaxed), 0);
    let (taken, needed) = (taken.load(Relaxed), 2 * PLACES);
    // What a race leaves over is used next; before and after, at most one a CPU waits for that.
    assert!(taken + cpus >= needed, "{taken} tables");
    assert!(taken <= needed + cpus, "{taken} tables");
}

// Seen to fail: without the `unmap` of what was done.
fn a_mapping_that_fails_leaves_nothing() {
    const PAGES: usize = 1030; // in 3 tables, and one above them
    let at = OWN + (100 << 30);
    let page = Page::new(1);
    let map = |at, pages, table: &mut dyn FnMut() -> Option<Pfn>| {
        let runs = &mut (0..pages).map(|_| page.run());
        // SAFETY: the test's own addresses and page.
        unsafe { paging::map(at, runs, Protection::ReadWrite, table) }
    };
    // What races left over is used up.
    let mut asked = false;
    for place in 1.. {
        let elsewhere = at - place * (2 << 20);
        let done = map(elsewhere, 1, &mut || {
            asked = true;
            table()
        });
        done.expect("memory is there");
        unmap(elsewhere, 1);
        shootdown::flush(elsewhere, 1);
        if asked {
            break;
        }
    }
    let mut left = 2;
    let mut few = || {
        left -= 1;
        if left < 0 { None } else { table() }
    };
    assert!(map(at, PAGES, &mut few).is_err());
    assert!((0..PAGES).all(|i| paging::frame_at(at + (i << PAGE_SHIFT)).is_none()));
    map(at, PAGES, &mut table).expect("memory is there");
    assert!((0..PAGES).all(|i| read(at + (i << PAGE_SHIFT)) == Some(1)));
    unmap(at, PAGES);
    shootdown::flush(at, PAGES);
}

// Seen to fail: `break=protection`.
fn a_read_only_page_can_be_read() {
    let page = Page::new(7);
    let at = OWN + (101 << 30);
    // SAFETY: the test's own address and page.
    let done = unsafe {
        paging::map(
            at,
            &mut core::iter::once(page.run()),
            Protection::Read,
            &mut table,
        )
    };
    assert!(done.is_ok());
    assert_eq!(read(at), Some(7));
    // SAFETY: ours.
    let written = unsafe { paging::fault::try_write(at, 8) };
    assert!(written.is_err());
    assert_eq!(read(at), Some(7));
    unmap(at, 1);
    shootdown::flush(at, 1);
}

// V1, V10, V13, V17
fn all_cpus_allocate_free_purge_and_drain() {
    const ROUNDS: usize = 300;
    on_all_cpus(|cpu| {
        for round in 0..ROUNDS {
            let pages = 1 + (round * 7 + cpu as usize * 13) % 40;
            let area = mm().vmalloc(pages * PAGE_SIZE).expect("memory is there");
            let word = |page: usize| {
                area.as_ptr()
                    .wrapping_add(page * PAGE_SIZE)
                    .cast::<[usize; 2]>()
            };
            // SAFETY: our area.
            (0..pages).for_each(|page| unsafe { word(page).write_volatile([round, page]) });
            if round % 16 == cpu as usize {
                mm().vmalloc_space().vm_unmap_aliases().expect("a task");
            }
            if round % 50 == cpu as usize {
                mm().trim();
            }
            for page in 0..pages {
                // SAFETY: our area.
                assert_eq!(unsafe { word(page).read_volatile() }, [round, page]);
            }
            // SAFETY: ours.
            unsafe { mm().vfree(area.as_ptr()) }
        }
    });
    mm().vmalloc_space().verify().expect("all invariants hold");
}
