//! The clock: the time stamp counter, measured against the PIT.

use super::cpu::{inb, outb, rdtsc};
use super::{apic, percpu};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Cycles of the counter a millisecond. Until [`calibrate`] more than any CPU has: the clock is
/// slow until then, and goes forward when it is set right.
static CYCLES_PER_MS: AtomicU64 = AtomicU64::new(20_000_000);
/// Ticks of the local timers a millisecond.
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(0);
/// The counter when the kernel was entered.
static START: AtomicU64 = AtomicU64::new(0);

/// The kernel was entered at this count.
pub fn started(tsc: u64) {
    START.store(tsc, Relaxed);
}

/// Measures counter and timer against the PIT's channel 2, which counts at 1193182 Hz. 10 ms.
pub fn calibrate() {
    const PIT_HZ: u64 = 1_193_182;
    const MS: u64 = 10;
    const COUNT: u16 = (PIT_HZ * MS / 1000) as u16;
    const OUT: u8 = 1 << 5;
    // SAFETY: the PIT's and the speaker's ports; they touch no memory.
    let cycles = unsafe {
        outb(0x61, inb(0x61) & !2 | 1); // gate on, speaker off
        outb(0x43, 0xb0); // channel 2, low then high byte, mode 0
        outb(0x42, COUNT as u8);
        let from = rdtsc();
        outb(0x42, (COUNT >> 8) as u8);
        apic::timer_run();
        while inb(0x61) & OUT == 0 {
            core::hint::spin_loop();
        }
        rdtsc() - from
    };
    let before_ns = now_ns();
    CYCLES_PER_MS.store((cycles / MS).max(1), Relaxed);
    debug_assert!(now_ns() >= before_ns, "the clock goes back");
    TICKS_PER_MS.store((u64::from(apic::timer_ran()) / MS).max(1), Relaxed);
}

/// Nanoseconds from counter cycles.
pub fn ns_of(cycles: u64) -> u64 {
    (u128::from(cycles) * 1_000_000 / u128::from(CYCLES_PER_MS.load(Relaxed))) as u64
}

/// Nanoseconds since the kernel was entered. Never goes back on one CPU; the counters of the CPUs
/// are taken to be in step, as they are where the firmware does not set them.
pub fn now_ns() -> u64 {
    ns_since_start(rdtsc())
}

/// Nanoseconds from the entry of the kernel to a reading of the counter.
pub fn ns_since_start(tsc: u64) -> u64 {
    ns_of(tsc.wrapping_sub(START.load(Relaxed)))
}

/// Waits, spinning.
pub fn spin_us(us: u64) {
    let until = now_ns() + us * 1000;
    while now_ns() < until {
        core::hint::spin_loop();
    }
}

/// Has this CPU's timer interrupt it `hz` times a second; 0 stops it.
pub fn timer_hz(hz: u64) {
    let ticks = (TICKS_PER_MS.load(Relaxed) * 1000)
        .checked_div(hz)
        .unwrap_or(0);
    apic::timer_every(if hz == 0 {
        0
    } else {
        ticks.clamp(1, u32::MAX.into()) as u32
    });
}

/// Timer interrupts taken by all CPUs.
pub fn ticks() -> u64 {
    percpu::all().map(|cpu| cpu.timer_ticks.load(Relaxed)).sum()
}
