//! Gates: who is called for what, and what is restored.
//!
//! 1. All gates are interrupt gates: interrupts are off when a handler starts.
//! 2. [`Frame`] is all that the interrupted code had. A handler may change it: the return goes
//!    where it says then.
//! 3. Before anything else, an interrupted restartable sequence is sent back to its start
//!    ([`restart`]).
//! 4. When the outermost interrupt ends and the running task should give way, the scheduler
//!    switches right there, on the interrupted task's stack.

use super::percpu::{self, FAULT_SLICE, IST2};
use super::{apic, cpu, exit, nmi};
use crate::controls::{Control, broken};
use crate::{paging, println, sched};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering, Ordering::Relaxed};

global_asm!(include_str!("traps.s"), IST2 = const IST2, SLICE = const FAULT_SLICE);

/// Debug exception: single step.
pub const DEBUG: u64 = 1;
/// Non-maskable interrupt.
pub const NMI: u64 = 2;
/// Page fault.
pub const PAGE_FAULT: u64 = 14;

/// What was interrupted.
#[repr(C, align(16))]
#[derive(Debug)]
#[expect(missing_docs, reason = "the registers' own names")]
pub struct Frame {
    pub sse: Sse,
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Control word and registers of SSE.
#[repr(C, align(16))]
pub struct Sse {
    mxcsr: u32,
    _pad: [u32; 3],
    xmm: [u128; 16],
}

impl core::fmt::Debug for Sse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "mxcsr {:#x}", self.mxcsr)
    }
}

/// As `traps.s` lays it down: 17 units of 16 bytes, and 22 words.
const _: () = assert!(size_of::<Frame>() == 17 * 16 + 22 * 8);
const _: () = assert!(core::mem::offset_of!(Sse, xmm) == 16);

#[repr(C, align(16))]
struct Idt(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: [INV-KERNEL-3] written by the first CPU before the others start, then read by hardware.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([[0; 2]; 256]));

#[repr(C, packed)]
struct Idtr(u16, u64);

/// Fills the table of gates. By the first CPU, before others run: at once, and again when the
/// command line is known, which may take the change of stacks out.
pub fn init() {
    unsafe extern "C" {
        static trap_stubs: u8;
    }
    const STUB_BYTES: u64 = 16;
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e;
    const CODE: u64 = 8;
    for vector in 0..256u64 {
        let ist = match vector {
            NMI => 3,
            8 | 18 => 4,
            0..32 => 2,
            _ if broken(Control::RedZone) => 0,
            _ => 1,
        };
        let at = (&raw const trap_stubs).addr() as u64 + vector * STUB_BYTES;
        let low = at & 0xffff
            | CODE << 16
            | ist << 32
            | PRESENT_INTERRUPT_GATE << 40
            | (at >> 16 & 0xffff) << 48;
        // SAFETY: [INV-KERNEL-3] nobody else is there yet.
        unsafe { (*IDT.0.get())[vector as usize] = [low, at >> 32] }
    }
}

/// Has this CPU use the table. Once a CPU.
pub fn load() {
    let idtr = Idtr(256 * 16 - 1, IDT.0.get().addr() as u64);
    // SAFETY: [INV-KERNEL-3] the table is full and lives for ever.
    unsafe { asm!("lidt [{}]", in(reg) &idtr, options(nostack, preserves_flags, readonly)) }
}

/// A function that tests have called in handlers.
pub struct Hook(AtomicUsize);

impl Hook {
    const fn new() -> Hook {
        Hook(AtomicUsize::new(0))
    }

    /// Has `f` called from now on; `None`: nothing. A handler under way on another CPU may still
    /// call the old one.
    pub fn set(&self, f: Option<fn(&mut Frame)>) {
        // Release: pairs with the Acquire in `call`.
        self.0.store(f.map_or(0, |f| f as usize), Ordering::Release);
    }

    #[inline]
    fn call(&self, frame: &mut Frame) -> bool {
        // Acquire: pairs with the Release in `set`.
        let at = self.0.load(Ordering::Acquire);
        if at == 0 {
            return false;
        }
        // SAFETY: [INV-KERNEL-4] only `set` writes it, from a function of this type.
        let f = unsafe { core::mem::transmute::<usize, fn(&mut Frame)>(at) };
        f(frame);
        true
    }
}

/// As [`ON_TIMER`], before it; for what goes on through all tests.
pub static BACKGROUND_TIMER: Hook = Hook::new();
/// As [`ON_NMI`], before it.
pub static BACKGROUND_NMI: Hook = Hook::new();
/// Called in each timer interrupt, on each CPU.
pub static ON_TIMER: Hook = Hook::new();
/// Called in each NMI, on each CPU.
pub static ON_NMI: Hook = Hook::new();
/// Called for each debug exception.
pub static ON_DEBUG: Hook = Hook::new();

#[unsafe(no_mangle)]
extern "C" fn trap_interrupt(frame: &mut Frame) {
    let this = percpu::this();
    nmi::assert_outside(frame);
    restart(frame);
    if sched::death::interrupt_without_room(frame) {
        return;
    }
    this.irq_depth
        .store(this.irq_depth.load(Relaxed) + 1, Relaxed);
    match frame.vector {
        apic::TIMER => {
            this.timer_ticks
                .store(this.timer_ticks.load(Relaxed) + 1, Relaxed);
            apic::end_of_interrupt();
            BACKGROUND_TIMER.call(frame);
            ON_TIMER.call(frame);
            sched::on_tick();
        }
        apic::SPURIOUS => {}
        apic::MESSAGE => {
            this.messages
                .store(this.messages.load(Relaxed) + 1, Relaxed);
            apic::end_of_interrupt();
            super::smp::on_message();
        }
        _ => apic::end_of_interrupt(),
    }
    this.irq_depth
        .store(this.irq_depth.load(Relaxed) - 1, Relaxed);
    // The frame lies on the interrupted task's own stack, so another task may run before we return
    // to it, perhaps on another CPU.
    sched::on_interrupt_end();
}

#[unsafe(no_mangle)]
extern "C" fn trap_fixed(frame: &mut Frame) {
    if frame.vector != NMI {
        fatal(frame);
    }
    nmi::begin(frame);
    let this = percpu::this();
    // What this handler runs uses the area too; and it may have come before the look of an
    // interrupt or of an exception on this CPU, which must find the area as it was.
    let before = percpu::area().suspend(frame.rip as usize);
    if let Some(at) = before.restart_at().filter(|_| !broken(Control::Restart)) {
        frame.rip = at as u64;
    }
    this.nmi_depth
        .store(this.nmi_depth.load(Relaxed) + 1, Relaxed);
    this.nmis.store(this.nmis.load(Relaxed) + 1, Relaxed);
    sched::report_on_nmi(frame);
    BACKGROUND_NMI.call(frame);
    ON_NMI.call(frame);
    this.nmi_depth
        .store(this.nmi_depth.load(Relaxed) - 1, Relaxed);
    percpu::area().resume(before);
    nmi::end(frame);
}

#[unsafe(no_mangle)]
extern "C" fn trap_fault(frame: &mut Frame) {
    let (vector, error, rip) = (frame.vector, frame.error, frame.rip);
    nmi::assert_outside(frame);
    // A handler sees where the exception was; the interrupted code does not go on from there.
    let restart_at = percpu::area().interrupted(rip as usize);
    if vector == DEBUG && ON_DEBUG.call(frame) {
        if let Some(at) = restart_at.filter(|_| frame.rip == rip && !broken(Control::Restart)) {
            frame.rip = at as u64;
        }
        return;
    }
    if vector != PAGE_FAULT {
        let why = format_args!("exception {vector}, rip {rip:#x}, error {error:#x}");
        return fatal_in_task(frame, why);
    }
    if let Some(fault) = paging::fault::handle(frame) {
        fatal_in_task(frame, format_args!("page fault: {fault}, rip {rip:#x}"));
    }
}

/// Sends an interrupted sequence back to its start.
///
/// Who looks when, so that no sequence goes on after something came in between:
/// * An interrupt looks here, first of all. Its stub ran with interrupts off, so only an NMI can
///   have come before: that one suspends the area and resumes it, and we find what it found. If it
///   came inside the sequence, it has sent the frame below ours back; the area is disarmed then.
/// * A single step cannot come between: the gates clear the trap flag. A fault in the stub means
///   that there is no stack, and the task dies.
/// * What a handler runs after its look arms and leaves the area as it likes; the area's old value
///   is dead, since the interrupted sequence begins anew.
/// * An exception of the sequence itself that is handled looks in [`trap_fault`]. A handler of an
///   NMI takes none.
/// * A switch is made by an interrupt that looked, or by a call, which is outside of sequences.
#[inline]
fn restart(frame: &mut Frame) {
    let at = percpu::area().interrupted(frame.rip as usize);
    if let Some(at) = at.filter(|_| !broken(Control::Restart)) {
        frame.rip = at as u64;
    }
}

/// A fault that nobody expected: the end of the task that had it, or of the machine.
fn fatal_in_task(frame: &mut Frame, why: fmt::Arguments<'_>) {
    if !sched::death::fatal_exception(frame, why) {
        println!("{why}");
        fatal(frame);
    }
}

/// The end of the machine.
pub(super) fn fatal(frame: &Frame) -> ! {
    println!(
        "fatal exception {} on cpu {}: {frame:#x?}",
        frame.vector,
        percpu::cpu()
    );
    println!("cr2 {:#x}", cpu::read_cr2());
    sched::report();
    exit::exit(exit::Outcome::Broken)
}
