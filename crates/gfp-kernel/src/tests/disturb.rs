//! What goes on during all tests: handlers that allocate and free.
//!
//! 1. Each timer interrupt on each CPU frees or allocates one object or page, and sends an NMI to
//!    the next CPU in turn; each NMI frees or allocates too.
//! 2. Each CPU has a *stash* for timer interrupts and one for NMIs: what its handlers hold, at most
//!    [`SLOTS`] blocks. So memory is always in handlers' hands, but little of it.
//! 3. [`quiet`] stops the allocations, not the interrupts, and empties the stashes: for tests that
//!    count frames.

use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{apic, smp, traps};
use crate::controls::{Control, broken};
use crate::memory::mm;
use core::fmt;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};
use core::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst};
use gfp::flags::GFP_ATOMIC;
use gfp::frame::CpuId;

/// Blocks that one stash holds at most; the last is a page.
const SLOTS: usize = 8;
const SIZES: [usize; SLOTS - 1] = [8, 64, 100, 192, 500, 1500, 4096];

struct Stash {
    blocks: [AtomicPtr<u8>; SLOTS],
    next: AtomicU32,
    /// A handler is using it.
    busy: AtomicBool,
    allocated: AtomicU64,
    refused: AtomicU64,
}

/// Where a handler runs.
#[derive(Copy, Clone)]
enum Level {
    Timer,
    Nmi,
}

static STASHES: [[Stash; 2]; MAX_CPUS] =
    [const { [const { Stash::new() }, const { Stash::new() }] }; MAX_CPUS];
/// Handlers may allocate, if nobody wants quiet.
static ON: AtomicBool = AtomicBool::new(false);
/// How many want it.
static QUIET: AtomicU32 = AtomicU32::new(0);
/// Whom the next NMI is for.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Stash {
    const fn new() -> Stash {
        Stash {
            blocks: [const { AtomicPtr::new(null_mut()) }; SLOTS],
            next: AtomicU32::new(0),
            busy: AtomicBool::new(false),
            allocated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Frees what the next slot holds, or fills it. Called by one handler at a time: those of one
    /// level on one CPU do not nest.
    fn step(&self) {
        // SeqCst, both: `quiet` changes `QUIET` and loads `busy`; one of us sees the other.
        self.busy.store(true, SeqCst);
        if QUIET.load(SeqCst) == 0 && ON.load(Relaxed) {
            let slot = self.next.load(Relaxed) as usize % SLOTS;
            self.next.store(slot as u32 + 1, Relaxed);
            if !self.empty(slot) {
                self.fill(slot);
            }
        }
        self.busy.store(false, SeqCst);
    }

    fn fill(&self, slot: usize) {
        let block = match SIZES.get(slot) {
            Some(&size) => mm().kmalloc(size, GFP_ATOMIC),
            None => mm().get_free_pages(GFP_ATOMIC, 0),
        };
        let count = match block {
            Ok(block) => {
                // SAFETY: fresh memory of at least 8 bytes.
                unsafe {
                    block
                        .as_ptr()
                        .cast::<u64>()
                        .write(block.as_ptr().addr() as u64)
                }
                self.blocks[slot].store(block.as_ptr(), Relaxed);
                &self.allocated
            }
            Err(_) => &self.refused,
        };
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// False if the slot was empty.
    fn empty(&self, slot: usize) -> bool {
        let block = self.blocks[slot].swap(null_mut(), Relaxed);
        if block.is_null() {
            return false;
        }
        // SAFETY: it is ours alone; allocated by `fill`, of the kind of the slot, freed once.
        unsafe {
            assert_eq!(block.cast::<u64>().read(), block.addr() as u64);
            match slot < SIZES.len() {
                true => mm().kfree(block),
                false => mm().free_pages(block, 0),
            }
        }
        true
    }
}

fn stash(level: Level) -> &'static Stash {
    &STASHES[percpu::cpu() as usize][level as usize]
}

fn on_timer(_frame: &mut traps::Frame) {
    stash(Level::Timer).step();
    let next = NEXT.fetch_add(1, Relaxed) % smp::count();
    if let Some(cpu) = percpu::of(CpuId(next)) {
        apic::send_nmi(cpu.apic_id.load(Relaxed));
    }
}

/// Disturbs all CPUs from now on. Handlers do not allocate where they would wait for a lock of who
/// they interrupted, since that check is taken out: its tests are to fail, not the whole run.
pub fn start() {
    ON.store(!broken(Control::Nested), Relaxed);
    traps::BACKGROUND_TIMER.set(Some(on_timer));
    traps::BACKGROUND_NMI.set(Some(|_| stash(Level::Nmi).step()));
}

/// Handlers hold no memory while it lives, or another one does.
pub struct Quiet(());

/// Stops the handlers' allocations and empties their stashes. Interrupts and NMIs go on.
pub fn quiet() -> Quiet {
    QUIET.fetch_add(1, SeqCst); // as in `step`
    for stash in STASHES.iter().flatten() {
        while stash.busy.load(SeqCst) {
            core::hint::spin_loop();
        }
        (0..SLOTS).for_each(|slot| {
            stash.empty(slot);
        });
    }
    Quiet(())
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.fetch_sub(1, SeqCst);
    }
}

/// How much went on.
pub struct Summary {
    ticks: u64,
    nmis: u64,
    /// Allocations that were given and refused, in timer interrupts and in NMIs.
    allocations: [(u64, u64); 2],
}

/// How much went on so far.
pub fn summary() -> Summary {
    let sum = |level: Level, count: fn(&Stash) -> &AtomicU64| {
        let of_level = STASHES.iter().map(|of_cpu| &of_cpu[level as usize]);
        of_level.map(|stash| count(stash).load(Relaxed)).sum()
    };
    let both = |level| (sum(level, |s| &s.allocated), sum(level, |s| &s.refused));
    Summary {
        ticks: percpu::all().map(|cpu| cpu.timer_ticks.load(Relaxed)).sum(),
        nmis: percpu::all().map(|cpu| cpu.nmis.load(Relaxed)).sum(),
        allocations: [both(Level::Timer), both(Level::Nmi)],
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(irq, irq_refused), (nmi, nmi_refused)] = self.allocations;
        write!(
            f,
            "disturbed by {} timer interrupts and {} NMIs: {irq} and {nmi} allocations, \
             {irq_refused} and {nmi_refused} refused",
            self.ticks, self.nmis
        )
    }
}
