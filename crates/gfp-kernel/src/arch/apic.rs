//! The local interrupt controller of each CPU: its timer, messages to other CPUs, NMIs.
//!
//! Two ways to the same registers: memory at 0xfee00000 (xAPIC), or model-specific registers
//! (x2APIC) where the CPU has them.

use super::cpu::{self, IrqOff};
use super::phys_to_ptr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Vector of the timer.
pub const TIMER: u64 = 0x40;
/// Vector of messages between CPUs.
pub const MESSAGE: u64 = 0x41;
/// Vector of interrupts that went away.
pub const SPURIOUS: u64 = 0xff;

const BASE_MSR: u32 = 0x1b;
const ENABLED: u64 = 1 << 11;
const X2_ENABLED: u64 = 1 << 10;
const XAPIC: u64 = 0xfee0_0000;
const X2APIC: u32 = 0x800;

/// Offsets of registers in the xAPIC; a sixteenth of it is their number in the x2APIC.
mod register {
    pub(super) const ID: u32 = 0x20;
    pub(super) const END: u32 = 0xb0;
    pub(super) const SPURIOUS: u32 = 0xf0;
    pub(super) const COMMAND: u32 = 0x300;
    pub(super) const COMMAND_HIGH: u32 = 0x310;
    pub(super) const TIMER: u32 = 0x320;
    pub(super) const TIMER_START: u32 = 0x380;
    pub(super) const TIMER_NOW: u32 = 0x390;
    pub(super) const TIMER_DIVIDE: u32 = 0x3e0;
}

static X2: AtomicBool = AtomicBool::new(false);

fn x2() -> bool {
    X2.load(Relaxed)
}

fn read(register: u32) -> u32 {
    if x2() {
        // SAFETY: the register exists in an x2APIC.
        return unsafe { cpu::rdmsr(X2APIC + register / 16) as u32 };
    }
    let at = phys_to_ptr(XAPIC + u64::from(register)).cast::<u32>();
    // SAFETY: [INV-KERNEL-5] the direct map shows the controller; each CPU sees its own.
    unsafe { at.read_volatile() }
}

fn write(register: u32, value: u32) {
    if x2() {
        // SAFETY: the register exists in an x2APIC.
        return unsafe { cpu::wrmsr(X2APIC + register / 16, value.into()) };
    }
    let at = phys_to_ptr(XAPIC + u64::from(register)).cast::<u32>();
    // SAFETY: [INV-KERNEL-5] as in `read`.
    unsafe { at.write_volatile(value) }
}

/// Turns the old controllers off and this CPU's on. Once a CPU, with interrupts off.
pub fn init() {
    const HAS_X2: u32 = 1 << 21;
    // SAFETY: the ports of the two 8259: all their lines are masked.
    unsafe {
        cpu::outb(0x21, 0xff);
        cpu::outb(0xa1, 0xff);
    }
    // SAFETY: every x86_64 CPU has the register.
    let base = unsafe { cpu::rdmsr(BASE_MSR) } | ENABLED;
    let has_x2 = cpu::cpuid(1, 0).ecx & HAS_X2 != 0;
    X2.store(has_x2, Relaxed); // the same on all CPUs
    // SAFETY: turns the controller on; 0xfee00000 stays its place.
    unsafe { cpu::wrmsr(BASE_MSR, base | if has_x2 { X2_ENABLED } else { 0 }) }
    write(register::SPURIOUS, 0x100 | SPURIOUS as u32);
}

/// This CPU's number among controllers.
pub fn id() -> u32 {
    let id = read(register::ID);
    if x2() { id } else { id >> 24 }
}

/// True if messages can be sent to that number: an xAPIC has 8 bits for it, of which all ones are
/// everybody.
pub fn can_address(id: u32) -> bool {
    id < if x2() { u32::MAX } else { 0xff }
}

/// Ends the interrupt being handled, so that the next may come.
#[inline]
pub fn end_of_interrupt() {
    write(register::END, 0);
}

fn command(to: u32, low: u32) {
    let _off = IrqOff::new(); // xAPIC: two writes belong together
    if x2() {
        // The write of the register orders nothing by itself.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        // SAFETY: sends a message.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            cpu::wrmsr(
                X2APIC + register::COMMAND / 16,
                u64::from(to) << 32 | u64::from(low),
            );
        }
        return;
    }
    const PENDING: u32 = 1 << 12;
    while read(register::COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write(register::COMMAND_HIGH, to << 24);
    write(register::COMMAND, low);
}

const ASSERT: u32 = 1 << 14;

/// Interrupts another CPU with [`MESSAGE`].
pub fn send_message(to: u32) {
    command(to, ASSERT | MESSAGE as u32);
}

/// Interrupts a CPU with an NMI; may be this one.
pub fn send_nmi(to: u32) {
    command(to, ASSERT | 4 << 8);
}

/// First step of starting a CPU: it waits for the second.
pub fn send_init(to: u32) {
    command(to, ASSERT | 5 << 8);
}

/// Second step: it starts in real mode at page `page`.
pub fn send_startup(to: u32, page: u8) {
    command(to, ASSERT | 6 << 8 | u32::from(page));
}

const DIVIDE_BY_16: u32 = 3;

/// Lets the timer run down from its largest value, without an interrupt: for calibration.
pub fn timer_run() {
    const MASKED: u32 = 1 << 16;
    write(register::TIMER_DIVIDE, DIVIDE_BY_16);
    write(register::TIMER, MASKED | TIMER as u32);
    write(register::TIMER_START, u32::MAX);
}

/// Ticks since [`timer_run`].
pub fn timer_ran() -> u32 {
    u32::MAX - read(register::TIMER_NOW)
}

/// Has the timer interrupt this CPU every `ticks`; 0 stops it.
pub fn timer_every(ticks: u32) {
    const PERIODIC: u32 = 1 << 17;
    write(register::TIMER_DIVIDE, DIVIDE_BY_16);
    write(register::TIMER, PERIODIC | TIMER as u32);
    write(register::TIMER_START, ticks);
}
