//! The seam: what this machine offers the library.
//!
//! 1. **A section** is interrupts off and one word of the CPU, `inside`. Interrupts off keep
//!    interrupts and other tasks away, so an allocation in an interrupt never finds a section under
//!    it. An NMI does: it sees the word, and is refused as nested.
//! 2. **Another CPU's place** is taken by asking it: a message interrupts it, which can only be
//!    outside of its own sections; its handler sets `inside`, so that NMIs are refused there too,
//!    answers, and waits until it is released.
//! 3. **Contexts** are counted by the gates: NMI, interrupt; else a task, which is atomic where
//!    interrupts or preemption are off.

use crate::arch::percpu::{self, INSIDE, MAX_CPUS, OUTSIDE, PerCpu, TAKEN};
use crate::arch::{DIRECT_MAP, cpu, smp, stock, time};
use crate::controls::{Control, broken};
use crate::{print, println, sched};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, Ordering::Relaxed};
use gfp::frame::{CpuId, NodeId, PhysAddr};
use gfp::platform::{Context, DirectMap, Nested, Platform, Sleep, ThisTask};
use gfp::policy::reclaim::manual::DropCaches;
use gfp::report::{AllocStall, Report};
use gfp::sync::stock::{At, Put, Shelf, Shelves};

/// The machine that this kernel runs on.
pub struct Machine {
    map: DirectMap,
    cpus: u32,
}

impl Machine {
    /// # Safety
    /// Once; the direct map shows all memory of the map that the library boots with, and `cpus` is
    /// at least the number of CPUs that will be started.
    pub unsafe fn new(cpus: u32) -> Machine {
        let base = core::ptr::with_exposed_provenance_mut(DIRECT_MAP);
        Machine {
            map: DirectMap::new(base, PhysAddr(0)),
            cpus: cpus.clamp(1, MAX_CPUS as u32),
        }
    }
}

/// The right to a CPU's private state. Interrupts are off while it lives.
pub struct Section<'a> {
    /// `rflags` before.
    was: u32,
    /// Index of the CPU whose place was taken, plus 1; 0: the own one.
    taken: u32,
    /// Not `Send`.
    _cpu: PhantomData<(&'a Machine, *mut ())>,
}

impl Section<'_> {
    #[inline(always)]
    fn new<'a>(was: u64, taken: u32) -> Section<'a> {
        Section {
            was: was as u32,
            taken,
            _cpu: PhantomData,
        }
    }

    /// Ends it.
    #[inline(always)]
    fn end(&self) {
        if self.taken != 0 {
            release(self.taken - 1);
        }
        // SAFETY: we entered; interrupts are off since.
        unsafe { percpu::set_inside::<OUTSIDE>() }
        if u64::from(self.was) & cpu::IF != 0 {
            // SAFETY: they were on when we entered, and the section is over.
            unsafe { cpu::sti() }
        }
    }
}

impl Drop for Section<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.end();
    }
}

/// One word a CPU: is its place wanted?
static WANTED: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(NOT_WANTED) }; MAX_CPUS];
const NOT_WANTED: u32 = 0;
/// Asked for; the CPU has not answered.
const ASKED: u32 = 1;
/// The CPU waits in its handler until the word is something else.
const GIVEN: u32 = 2;

/// One CPU at a time may ask for another's place: two that asked each other would wait for ever.
static TAKING: AtomicBool = AtomicBool::new(false);

#[cold]
fn take(there: &PerCpu) {
    let word = &WANTED[there.index() as usize];
    // Release: pairs with the Acquire that ends the wait in `give_way`, which may see this instead
    // of what `release` wrote for the one before us.
    word.store(ASKED, Ordering::Release);
    smp::send(there, smp::Reason::GiveWay);
    // Acquire: pairs with the Release in `give_way`; what the last section there wrote is seen.
    while word.load(Ordering::Acquire) != GIVEN && !broken(Control::NoWait) {
        core::hint::spin_loop();
    }
}

#[cold]
fn release(target: u32) {
    // Release: pairs with the Acquire in `give_way`; what we wrote in its place is seen there.
    WANTED[target as usize].store(NOT_WANTED, Ordering::Release);
    // Release: pairs with the Acquire in `enter_remote`.
    TAKING.store(false, Ordering::Release);
}

/// Another CPU wants this one's place. Called by the message handler, interrupts off: this CPU is
/// outside.
pub fn give_way() {
    let this = percpu::this();
    let word = &WANTED[this.index() as usize];
    if word.load(Relaxed) != ASKED {
        return;
    }
    debug_assert_eq!(this.inside(), OUTSIDE, "interrupts are off inside");
    if !broken(Control::NotTaken) {
        this.set_inside(TAKEN);
    }
    // Release: pairs with the Acquire in `take`.
    word.store(GIVEN, Ordering::Release);
    // Acquire: pairs with the Release in `release`, or in the next `take`.
    while word.load(Ordering::Acquire) == GIVEN {
        crate::paging::shootdown::answer();
        core::hint::spin_loop();
    }
    this.set_inside(OUTSIDE);
}

// SAFETY: (1) promised to `Machine::new`. (2) [INV-PCPU-1] a section of the own CPU begins with
// interrupts off and `inside` clear and ends by clearing it, all on one CPU, since nothing else
// runs there meanwhile but NMIs, which find it set; one of another CPU exists while that CPU waits
// in its handler, interrupts off and `inside` set. What one wrote is seen in the next: the same
// CPU, or the pairs named in `take`, `give_way` and `release`. (3) indices are below `cpus`: those
// that are started. (4) `Section` is not `Send`, and with interrupts off its task stays there.
unsafe impl Platform for Machine {
    type Section<'a> = Section<'a>;

    #[inline(always)]
    fn direct_map(&self) -> DirectMap {
        self.map
    }

    fn nr_cpus(&self) -> u32 {
        self.cpus
    }

    #[inline(always)]
    fn enter(&self) -> Result<(CpuId, Section<'_>), Nested> {
        let was = cpu::flags();
        if !broken(Control::InterruptsOn) {
            cpu::cli();
        }
        if percpu::inside() != OUTSIDE && !broken(Control::Nested) {
            if was & cpu::IF != 0 {
                // SAFETY: they were on.
                unsafe { cpu::sti() }
            }
            return Err(Nested);
        }
        // SAFETY: interrupts are off and nobody is inside.
        unsafe { percpu::set_inside::<INSIDE>() }
        Ok((CpuId(percpu::cpu()), Section::new(was, 0)))
    }

    #[inline(always)]
    fn leave(section: Section<'_>) {
        ManuallyDrop::new(section).end();
    }

    fn has_shelf(&self, cpu: CpuId, shelf: *mut Shelf) {
        if let Some(there) = percpu::of(cpu) {
            there.set_shelf(shelf);
        }
    }

    /// Without a section: [`arch::stock`](crate::arch::stock). There is one machine, whose shelves
    /// [`Platform::has_shelf`] told us.
    #[inline(always)]
    unsafe fn take_at_hand(&self, _shelves: &Shelves, at: At) -> Option<u32> {
        // SAFETY: promised by the caller.
        unsafe { stock::take(at) }
    }

    #[inline(always)]
    unsafe fn put_at_hand(&self, _shelves: &Shelves, put: Put<'_>) -> bool {
        // SAFETY: promised by the caller.
        unsafe { stock::put(put) }
    }

    /// `None` too where interrupts are off: two CPUs could then wait for each other.
    fn enter_remote(&self, cpu: CpuId) -> Option<Section<'_>> {
        // One that is installed but not counted takes no messages yet, and has not been inside.
        let there = percpu::of(cpu).filter(|_| cpu.0 < smp::count())?;
        if self.context() != Context::Task {
            return None;
        }
        loop {
            let was = cpu::flags();
            let stay = percpu::preempt_off();
            if stay.cpu().index() == cpu.0 {
                // The task was moved to that very CPU meanwhile.
                return self.enter().ok().map(|(_, section)| section);
            }
            // Who holds it does so with preemption off, and then interrupts, so it runs; we wait
            // with both on, so it never waits for us.
            // Acquire: pairs with the Release in `release`.
            if TAKING.swap(true, Ordering::Acquire) {
                drop(stay);
                self.relax(0);
                continue;
            }
            // Interrupts stay on: we answer messages while we wait.
            take(there);
            cpu::cli();
            // SAFETY: interrupts are off, and this task was outside. NMIs must find it set: they
            // could wait for a lock that we take in the other's place.
            unsafe { percpu::set_inside::<INSIDE>() }
            drop(stay);
            return Some(Section::new(was, cpu.0 + 1));
        }
    }

    #[inline(always)]
    fn node(&self) -> NodeId {
        NodeId(percpu::node() as u8)
    }

    fn context(&self) -> Context {
        let off = cpu::IrqOff::new();
        let this = percpu::this();
        if this.nmi_depth.load(Relaxed) > 0 {
            Context::Nmi
        } else if this.irq_depth.load(Relaxed) > 0 {
            Context::HardIrq
        } else {
            // A section keeps interrupts off too: inside, they say nothing about the caller.
            let masked = this.inside() == OUTSIDE && !off.were_on();
            match masked || this.preempt_depth.load(Relaxed) > 0 {
                true => Context::Atomic,
                false => Context::Task,
            }
        }
    }

    fn this_task(&self) -> Option<ThisTask<'_>> {
        Some(sched::this_word())
    }

    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    /// Who waits with interrupts on may wait for a task that was preempted, perhaps on this very
    /// CPU: it gives way. The library's locks are held, and waited for, with interrupts off, so
    /// their holders run; for those this only spins.
    fn relax(&self, spins: u32) {
        const PATIENCE: u32 = 64;
        core::hint::spin_loop();
        if spins % PATIENCE == PATIENCE - 1 {
            sched::relax();
        }
    }

    fn sleep(&self) -> Option<&dyn Sleep> {
        Some(self)
    }

    fn report(&self, report: &Report<'_>) {
        println!("{report}");
    }

    fn report_drop_caches(&self, what: DropCaches) {
        println!("{what}");
    }

    fn report_stall(&self, stall: &AllocStall) {
        print!("{}", stall.by("task"));
    }
}
