//! NMIs do not nest, and how it is seen if one does.
//!
//! 1. When a CPU takes an NMI, it takes no other before its next `iretq`, whoever executes that. So
//!    the handler of an NMI takes no exceptions, which would end by one, and leaves interrupts off.
//! 2. All NMIs of a CPU begin at the top of one stack: one inside another overwrites where that
//!    one has to return to. It cannot be mended, so it ends the machine, which says where both
//!    came.
//! 3. [`begin`] looks that none is under way, [`assert_outside`] that no other gate is entered
//!    inside, [`end`] that interrupts are off still and that no stack of a gate was too small.
//! 4. An emulator may let one in. QEMU's translation, with a thread for each CPU, keeps in one word
//!    whether CPU 0 is in an NMI. Each `fxrstor`, `frstor`, `fldenv` and `xrstor` of *any* CPU
//!    reads that word and writes it back: that CPU 0 took an NMI in between is forgotten. So the
//!    gates (`traps.s`) do without these instructions.

use super::traps::{self, Frame};
use super::{cpu, percpu};
use crate::controls::{Control, broken};
use crate::println;
use core::sync::atomic::Ordering::Relaxed;

/// An NMI came: before all else.
#[inline]
pub(super) fn begin(frame: &Frame) {
    let this = percpu::this();
    let [rip, rsp] = &this.nmi_at;
    // Its stack is looked at for those that come before or after the note.
    if rsp.load(Relaxed) != 0 || this.is_nmi_stack(frame.rsp) {
        die(frame, "an NMI");
    }
    rip.store(frame.rip, Relaxed);
    rsp.store(frame.rsp, Relaxed);
    if broken(Control::NmisNest) {
        let_nmis_in();
    }
}

/// The NMI is handled: after all else.
#[inline]
pub(super) fn end(frame: &Frame) {
    let this = percpu::this();
    if cpu::interrupts_on() {
        die(frame, "interrupts were turned on");
    }
    if !this.stacks_are_whole() {
        die(frame, "a stack of a gate was too small, seen");
    }
    this.nmi_at[1].store(0, Relaxed);
}

/// Another gate was entered.
#[inline]
pub(super) fn assert_outside(frame: &Frame) {
    if percpu::this().nmi_at[1].load(Relaxed) != 0 {
        die(frame, "an interrupt or exception");
    }
}

#[cold]
fn die(frame: &Frame, what: &str) -> ! {
    let [rip, rsp] = percpu::this().nmi_at.each_ref().map(|at| at.load(Relaxed));
    println!("{what} inside an NMI that came at rip {rip:#x} rsp {rsp:#x}");
    traps::fatal(frame)
}

/// An `iretq` to the next instruction.
fn let_nmis_in() {
    // SAFETY: it goes on behind it with the same stack, segments and flags.
    unsafe {
        core::arch::asm!(
            "mov {one:e}, ss",
            "mov {two}, rsp",
            "push {one}",
            "push {two}",
            "pushfq",
            "mov {one:e}, cs",
            "push {one}",
            "lea {one}, [rip + 2f]",
            "push {one}",
            "iretq",
            "2:",
            one = out(reg) _, two = out(reg) _,
        );
    }
}
