//! Making all CPUs forget mappings.
//!
//! 1. **A request.** Each CPU has one: the pages, and a bit for each CPU that has not answered.
//!    [`flush`] forgets on its own CPU, writes the request, sends one message to every other CPU
//!    that is up (an idle one wakes for it), and waits until all bits are clear.
//! 2. **Batches.** A request lists up to [`FEW`] pages; more become "all". [`flush_ranges`] makes
//!    one request of any number of ranges.
//! 3. **No deadlock.** Who waits with interrupts on answers others in its message handler; who
//!    waits with interrupts off looks for requests itself ([`answer`]), and so does a CPU whose
//!    place in the allocator is taken. A request is written with interrupts off, so one that finds
//!    its CPU's request in use interrupted a wait, and first waits in its place. Who holds a lock
//!    that others want with interrupts off must not flush.
//! 4. **A CPU that starts** is asked from when it is counted ([`smp::count`]) and forgets all right
//!    after that (`on_cpu_up`), so it remembers nothing from before.

use crate::arch::cpu::{self, IrqOff};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::smp::{self, Reason};
use crate::controls::{Control, broken};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed, fence};
use gfp::frame::{CpuId, PAGE_SHIFT};

/// Pages that are forgotten one by one. `invlpg` costs 470 cycles; forgetting all costs 9,370, and
/// a walk, about 100 cycles, for each of the some 64 other translations in use:
/// (9,370 + 6,400) / 470 = 33.
pub const FEW: usize = 33;

/// Pages to forget.
struct Pages {
    list: [usize; FEW],
    /// More than [`FEW`]: all.
    count: usize,
}

impl Pages {
    const NONE: Pages = Pages {
        list: [0; FEW],
        count: 0,
    };
    const ALL: usize = FEW + 1;

    fn add(&mut self, at: usize, pages: usize) {
        if pages > FEW - self.count.min(FEW) {
            self.count = Pages::ALL;
            return;
        }
        for page in 0..pages {
            self.list[self.count] = at + (page << PAGE_SHIFT);
            self.count += 1;
        }
    }
}

/// What a CPU asks all others to forget.
#[repr(align(64))]
struct Request {
    list: [AtomicUsize; FEW],
    count: AtomicUsize,
    /// One bit a CPU that has not done it.
    waiting: AtomicU64,
    sent: AtomicU64,
}

static REQUESTS: [Request; MAX_CPUS] = [const {
    Request {
        list: [const { AtomicUsize::new(0) }; FEW],
        count: AtomicUsize::new(0),
        waiting: AtomicU64::new(0),
        sent: AtomicU64::new(0),
    }
}; MAX_CPUS];

const _: () = assert!(MAX_CPUS <= u64::BITS as usize);

impl Request {
    /// Does what it asks for, on this CPU.
    fn forget(&self) {
        match self.count.load(Relaxed) {
            count @ ..=FEW => self.list[..count]
                .iter()
                .for_each(|at| cpu::invlpg(at.load(Relaxed))),
            _ => cpu::flush_all(),
        }
    }

    fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `answer`.
        self.waiting.load(Ordering::Acquire) == 0
    }
}

/// Makes all CPUs forget `pages` pages from `at` on; returns when they have.
///
/// Context: any but NMI; the caller holds no lock that others want with interrupts off.
pub fn flush(at: usize, pages: usize) {
    flush_ranges(&mut core::iter::once((at, pages)));
}

/// [`flush`] of many ranges, by one message to each CPU.
pub fn flush_ranges(ranges: &mut dyn Iterator<Item = (usize, usize)>) {
    let mut pages = Pages::NONE;
    ranges.for_each(|(at, count)| pages.add(at, count));
    if pages.count > 0 {
        send(&pages);
    }
}

/// Makes all CPUs forget everything.
pub fn flush_all() {
    send(&Pages {
        count: Pages::ALL,
        ..Pages::NONE
    });
}

fn send(pages: &Pages) {
    let off = IrqOff::new();
    let cpu = percpu::cpu();
    let request = &REQUESTS[cpu as usize];
    while !request.is_done() {
        answer();
        core::hint::spin_loop();
    }
    for (to, &page) in request.list.iter().zip(&pages.list) {
        to.store(page, Relaxed);
    }
    request.count.store(pages.count, Relaxed);
    // The cleared entries are seen by whoever is not counted below: `on_cpu_up`.
    fence(Ordering::SeqCst);
    let all = u64::MAX >> (u64::BITS - smp::count());
    let others = match broken(Control::Shootdown) {
        true => 0,
        false => all & !(1 << cpu),
    };
    request.sent.store(request.sent.load(Relaxed) + 1, Relaxed);
    // Release: pairs with the Acquire in `answer`; the list is seen, and the cleared entries.
    request.waiting.store(others, Ordering::Release);
    for other in (0..MAX_CPUS as u32).filter(|other| others >> other & 1 != 0) {
        if let Some(there) = percpu::of(CpuId(other)) {
            smp::send(there, Reason::Forget);
        }
    }
    request.forget();
    drop(off);
    // From here on this may be another CPU, and our request another one's: then it ends later.
    while !request.is_done() {
        if !cpu::interrupts_on() {
            answer();
        }
        core::hint::spin_loop();
    }
}

/// Does what other CPUs ask of this one. Interrupts are off: called by the message handler, and by
/// who waits with interrupts off.
pub fn answer() {
    let own = 1u64 << percpu::cpu();
    for request in &REQUESTS[..smp::count() as usize] {
        // Acquire: pairs with the Release in `send`.
        if request.waiting.load(Ordering::Acquire) & own != 0 {
            request.forget();
            // Release: pairs with the Acquire in `is_done`; what we read through the old mapping
            // is read.
            request.waiting.fetch_and(!own, Ordering::Release);
        }
    }
}

/// This CPU is counted from now on; what it remembers may be older.
pub(crate) fn on_cpu_up() {
    cpu::flush_all(); // serialises: the count is seen before we look at an entry again
}

/// Requests that were sent.
pub fn sent() -> u64 {
    REQUESTS.iter().map(|r| r.sent.load(Relaxed)).sum()
}
