//! A small kernel that lives on gfp alone: the [`Platform`](gfp::Platform) over bare x86_64.
//!
//! 1. **What it is for.** It proves that the library needs nothing around it, and is the example
//!    that the author of a kernel copies. `gfp boot` starts it in QEMU.
//! 2. **How it comes up.** `boot::entry` brings a CPU to 64 bits; [`start`] reads the firmware's
//!    tables, boots the library over the memory that they list, and starts the other CPUs.
//! 3. **Modes.** The word `mode=` of the command line says what it does then: tests, benchmarks, a
//!    shell, or nothing.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | entry, firmware's tables, command line |
//! | [`arch`] | the machine below |
//! | [`platform`] | the seam |
//! | [`paging`] | page tables, shootdown, page faults |
//! | [`sched`] | tasks |
//! | [`memory`] | the one `Mm`, Rust's allocator |
//! | [`bench`](mod@bench) | instructions an operation |
//! | [`once`] | values that are written once |
//! | [`controls`] | checks that can be taken out, to see tests fail |
//! | [`shell`] | the serial console |
//! | [`virtio`] | devices that read and write gfp's memory |
//! | [`tests`] | what is tested inside the machine |
//!
//! The library of a hosted test cannot hold a second `memcpy`, so nothing is here under `test`.
#![no_std]
#![cfg(not(test))]
#![cfg(target_arch = "x86_64")]

extern crate alloc;

pub mod arch;
pub mod bench;
pub mod boot;
pub mod controls;
pub mod memory;
pub mod once;
pub mod paging;
pub mod platform;
pub mod sched;
pub mod shell;
// Not where costs are measured: who else calls a function changes how it is compiled.
#[cfg(debug_assertions)]
pub mod tests;
pub mod virtio;

use arch::percpu::{self, PerCpu};
use arch::{apic, cpu, exit, serial, smp, time, traps};
use boot::tables::cmdline::Mode;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use gfp::flags::GFP_NOWAIT;
use gfp::frame::PAGE_SIZE;

struct FirstCpu(UnsafeCell<PerCpu>);

// SAFETY: [INV-KERNEL-2] given to `PerCpu::install` once.
unsafe impl Sync for FirstCpu {}

static FIRST: FirstCpu = FirstCpu(UnsafeCell::new(PerCpu::new()));

/// Where the entry code calls, on the first CPU with interrupts off.
///
/// # Safety
/// Called once, by the entry code, with the physical address of the firmware's start info.
pub unsafe fn start(start_info: u64) -> ! {
    time::started(cpu::rdtsc());
    serial::init();
    // SAFETY: [INV-KERNEL-2] the first CPU, once.
    unsafe { PerCpu::install(FIRST.0.get(), 0) };
    traps::init();
    traps::load();
    paging::init();
    // SAFETY: promised by the caller.
    let options = unsafe { boot::machine(start_info) };
    traps::init();
    paging::protect_image();
    println!("boot: gfp on bare x86_64");
    first_cpu_interrupts();
    println!(
        "boot: first allocation after {} us",
        boot::first_allocation_ns() / 1000
    );
    start_others(options);
    take_in_rest();
    // From here on there are tasks that may wait (P29).
    memory::mm().pages().allow(gfp::flags::Gfp::ALL);
    match options.command.mode {
        #[cfg(debug_assertions)]
        Mode::Test => first_task(|| tests::run(options)),
        #[cfg(not(debug_assertions))]
        Mode::Test => panic!("the tests are not in a build without debug assertions"),
        Mode::Bench => {
            // Without tasks and ticks: what is counted is the allocator's alone.
            // SAFETY: nothing is held.
            unsafe { cpu::sti() }
            bench::run(options.command.filter.unwrap_or(""))
        }
        Mode::Idle => exit::exit(exit::Outcome::Passed),
        Mode::Shell => first_task(|| {
            memory::start_background();
            shell::run()
        }),
    }
}

/// Starts the scheduler here, with a task that does `what`.
fn first_task(what: impl FnOnce() + Send + 'static) -> ! {
    time::timer_hz(1000);
    sched::start(what)
}

/// Starts all CPUs that the firmware lists.
fn start_others(options: &boot::Options) {
    const STACK_BYTES: usize = 64 << 10;
    let order = size_of::<PerCpu>()
        .div_ceil(PAGE_SIZE)
        .next_power_of_two()
        .ilog2() as u8;
    for &cpu in options.other_cpus() {
        let apic_id = cpu.0;
        let percpu = memory::mm().get_free_pages(GFP_NOWAIT, order);
        let stack = memory::mm().vmalloc_gfp(STACK_BYTES, GFP_NOWAIT); // nothing is mapped below it
        let (Ok(percpu), Ok(stack)) = (percpu, stack) else {
            println!("boot: no memory for CPU {apic_id}");
            break;
        };
        let percpu = percpu.as_ptr().cast::<PerCpu>();
        let end = stack.as_ptr().wrapping_add(STACK_BYTES);
        // SAFETY: [INV-KERNEL-2] both are fresh and never freed; we are the only caller;
        // nothing below 1 MiB is usable, and the page was free.
        let up = unsafe {
            percpu.write(PerCpu::new());
            smp::start(options.start_page, cpu, percpu, end)
        };
        if !up {
            println!("boot: CPU {apic_id} did not start");
        }
    }
    println!(
        "boot: {} CPU{} after {} us",
        smp::count(),
        if smp::count() == 1 { "" } else { "s" },
        time::now_ns() / 1000
    );
}

/// Takes in the memory that boot left for later, before anybody asks how much there is.
fn take_in_rest() {
    let pages = memory::mm().take_in_rest();
    if pages > 0 {
        println!(
            "boot: {} MiB more after {} us",
            (pages * PAGE_SIZE) >> 20,
            time::now_ns() / 1000
        );
    }
}

/// An application CPU is up: interrupts are off, nothing is held.
pub fn on_cpu_up() -> ! {
    paging::shootdown::on_cpu_up();
    time::timer_hz(1000);
    sched::idle()
}

/// What a panic does: ends the task if it is that one's alone, else says where, and ends the
/// machine.
pub fn on_panic(info: &PanicInfo<'_>) -> ! {
    sched::death::panicked(format_args!("{info}"));
    cpu::cli();
    println!("panic on cpu {}: {info}", percpu::cpu());
    sched::report();
    exit::exit(exit::Outcome::Broken)
}

/// Turns the first CPU's interrupt controller and timer on.
fn first_cpu_interrupts() {
    apic::init();
    percpu::this()
        .apic_id
        .store(apic::id(), core::sync::atomic::Ordering::Relaxed);
    time::calibrate();
}
