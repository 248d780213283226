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

/// Milliseconds of one measurement.
const MEASURED_MS: u64 = 2;

/// Measures counter and timer against the PIT. 10 ms.
///
/// A virtual CPU may lose its host in the middle of a measurement, which then is too long, never
/// too short: the shortest of some is right.
pub fn calibrate() {
    const TIMES: usize = 5;
    let measured = [(); TIMES].map(|()| measure());
    let least = |of: fn(&(u64, u64)) -> u64| measured.iter().map(of).min().unwrap_or(0);
    let before_ns = now_ns();
    CYCLES_PER_MS.store((least(|m| m.0) / MEASURED_MS).max(1), Relaxed);
    debug_assert!(now_ns() >= before_ns, "the clock goes back");
    TICKS_PER_MS.store((least(|m| m.1) / MEASURED_MS).max(1), Relaxed);
}

/// Cycles of the counter and ticks of the timer while the PIT's channel 2, which counts at 1193182
/// Hz, counts [`MEASURED_MS`]. Both begin before it and end after it.
fn measure() -> (u64, u64) {
    const PIT_HZ: u64 = 1_193_182;
    const COUNT: u16 = (PIT_HZ * MEASURED_MS / 1000) as u16;
    const OUT: u8 = 1 << 5;
    // SAFETY: the PIT's and the speaker's ports; they touch no memory.
    unsafe {
        outb(0x61, inb(0x61) & !2 | 1); // gate on, speaker off
        outb(0x43, 0xb0); // channel 2, low then high byte, mode 0
        outb(0x42, COUNT as u8);
        apic::timer_run();
        let from = rdtsc();
        outb(0x42, (COUNT >> 8) as u8);
        while inb(0x61) & OUT == 0 {
            core::hint::spin_loop();
        }
        (rdtsc() - from, apic::timer_ran().into())
    }
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
