//! Instructions that Rust has no name for.
//!
//! `cli` and `sti` are compiler barriers: no memory access moves across them, so they are not
//! `nomem`.

use core::arch::asm;
use core::marker::PhantomData;

/// Interrupt flag in `rflags`.
pub const IF: u64 = 1 << 9;
/// Trap flag in `rflags`: a debug exception after each instruction.
pub const TF: u64 = 1 << 8;

/// Takes no maskable interrupts from here on.
#[inline(always)]
pub fn cli() {
    // SAFETY: [INV-KERNEL-1] changes the interrupt flag only; who may run with it set may clear it.
    unsafe { asm!("cli", options(nostack, preserves_flags)) }
}

/// Takes interrupts again.
///
/// # Safety
/// The caller holds no section and no lock that a handler of this CPU takes.
#[inline(always)]
pub unsafe fn sti() {
    // SAFETY: promised by the caller.
    unsafe { asm!("sti", options(nostack, preserves_flags)) }
}

/// `rflags`.
#[inline(always)]
pub fn flags() -> u64 {
    let flags: u64;
    // SAFETY: pushes and pops one word; without `nostack`, so the red zone is kept clear.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem, preserves_flags)) }
    flags
}

/// True if maskable interrupts are taken.
#[inline(always)]
pub fn interrupts_on() -> bool {
    flags() & IF != 0
}

/// Waits for the next interrupt, with interrupts on from the instruction before: none is lost
/// between the caller's check and the wait.
///
/// # Safety
/// As [`sti`].
#[inline]
pub unsafe fn sti_and_halt() {
    // SAFETY: promised by the caller; `sti` takes effect after the next instruction.
    unsafe { asm!("sti", "hlt", options(nostack)) }
}

/// Stops this CPU for ever.
pub fn halt_for_ever() -> ! {
    loop {
        // SAFETY: without interrupts nothing happens to anybody any more.
        unsafe { asm!("cli", "hlt", options(nostack)) }
    }
}

/// Keeps interrupts off while it lives, and restores what was. Stays on its CPU: not `Send`.
pub struct IrqOff(u64, PhantomData<*mut ()>);

impl IrqOff {
    /// Turns them off.
    #[inline(always)]
    pub fn new() -> IrqOff {
        let was = flags();
        cli();
        IrqOff(was, PhantomData)
    }

    /// True if they were on before.
    #[inline]
    pub fn were_on(&self) -> bool {
        self.0 & IF != 0
    }
}

impl Default for IrqOff {
    fn default() -> IrqOff {
        IrqOff::new()
    }
}

impl Drop for IrqOff {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0 & IF != 0 {
            // SAFETY: they were on when this was made; guards nest.
            unsafe { sti() }
        }
    }
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists.
#[inline]
pub unsafe fn rdmsr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: promised by the caller.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high,
            options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and the value breaks no rule that others rely on.
#[inline]
pub unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: promised by the caller.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// The time stamp counter.
#[inline(always)]
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter. Not `nomem`: what is measured must not move across it.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) }
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a port, 8 bits.
///
/// # Safety
/// Reading it has no effect that others rely on not to happen.
#[inline]
pub unsafe fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: promised by the caller.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) }
    value
}

/// Writes a port, 8 bits.
///
/// # Safety
/// The device does nothing to memory that is in use.
#[inline]
pub unsafe fn outb(port: u16, value: u8) {
    // SAFETY: promised by the caller.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) }
}

/// Reads a port, 32 bits.
///
/// # Safety
/// As [`inb`].
#[inline]
pub unsafe fn inl(port: u16) -> u32 {
    let value: u32;
    // SAFETY: promised by the caller.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags));
    }
    value
}

/// Writes a port, 32 bits.
///
/// # Safety
/// As [`outb`].
#[inline]
pub unsafe fn outl(port: u16, value: u32) {
    // SAFETY: promised by the caller.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    }
}

/// `cpuid`.
#[inline]
pub fn cpuid(leaf: u32, sub_leaf: u32) -> core::arch::x86_64::CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, sub_leaf)
}

/// The address that the last page fault was about.
#[inline]
pub fn read_cr2() -> usize {
    let value: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Where the page tables are: the physical address of the root, and flags.
#[inline]
pub fn read_cr3() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Has this CPU take a debug exception before it executes the instruction at `addr`; `None`: no
/// more.
pub fn set_breakpoint(addr: Option<usize>) {
    const ENABLE_0: usize = 1 << 0; // on execution
    let control = addr.map_or(0, |_| ENABLE_0);
    // SAFETY: changes where debug exceptions come, and nothing else. Not `nomem`: what was stored
    // before is there when one comes.
    unsafe {
        asm!("mov dr7, {off}", "mov dr0, {addr}", "mov dr6, {off}", "mov dr7, {control}",
            off = in(reg) 0usize, addr = in(reg) addr.unwrap_or(0), control = in(reg) control,
            options(nostack, preserves_flags));
    }
}

/// Makes this CPU forget the mapping of one page.
#[inline]
pub fn invlpg(addr: usize) {
    // SAFETY: forgetting a mapping is always right. Not `nomem`: the change of the table stays
    // before it.
    unsafe { asm!("invlpg [{}]", in(reg) addr, options(nostack, preserves_flags)) }
}

/// Makes this CPU forget all mappings, the global ones too: those survive a write of `cr3`.
pub fn flush_all() {
    const PGE: u64 = 1 << 7;
    let _off = IrqOff::new();
    // SAFETY: turns global pages off and on again; the tables stay as they are.
    unsafe {
        let cr4: u64;
        asm!("mov {}, cr4", out(reg) cr4, options(nostack, preserves_flags));
        asm!("mov cr4, {}", in(reg) cr4 & !PGE, options(nostack, preserves_flags));
        asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
    }
}
