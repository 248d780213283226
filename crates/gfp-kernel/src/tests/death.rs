//! How tasks die, and what goes on without them.

use super::threads;
use crate::arch::cpu::IrqOff;
use crate::arch::smp;
use crate::paging::shootdown;
use crate::sched::{self, Affinity, Builder, spawn};
use gfp::frame::CpuId;

super::tests! { "death":
    a_panic_kills_only_its_task,
    a_fault_kills_only_its_task,
    a_stack_overflow_kills_only_its_task,
    an_interrupt_that_finds_no_stack_kills_only_its_task,
}

fn a_panic_kills_only_its_task() {
    let task = spawn("panics", || panic!("number {}", 7));
    let death = task.join().expect_err("it died");
    assert!(death.message().contains("number 7"), "{death:?}");
}

fn a_fault_kills_only_its_task() {
    for _ in 0..20 {
        let task = spawn("faults", || {
            const NOBODYS: usize = 0xffff_a000_0000_1000;
            let at: *const u64 = core::ptr::with_exposed_provenance(NOBODYS);
            // SAFETY: not safe at all, that is the test; nothing is mapped there.
            unsafe { at.read_volatile() }
        });
        let death = task.join().expect_err("it died");
        assert!(death.message().contains("0xffffa00000001000"), "{death:?}");
    }
}

fn a_stack_overflow_kills_only_its_task() {
    /// Never ends; the array makes it use stack, which the compiler cannot see to be useless.
    fn deeper(n: u64, above: &[u64; 16]) -> u64 {
        let here = core::hint::black_box([n ^ above[0]; 16]);
        if core::hint::black_box(false) {
            return 0;
        }
        deeper(n + 1, &here) + here[n as usize % 16]
    }
    for _ in 0..20 {
        let task = spawn("overflows", || {
            // By the page below the stack, or by an interrupt that comes just before.
            deeper(0, &[0; 16])
        });
        let death = task.join().expect_err("it died");
        assert!(
            death.message().contains("overflow of the stack"),
            "{death:?}"
        );
        let task = spawn("overflows", || {
            let _off = IrqOff::new(); // by the page
            deeper(0, &[0; 16])
        });
        let death = task.join().expect_err("it died");
        assert!(
            death.message().contains("overflow of the stack in"),
            "{death:?}"
        );
    }
}

fn an_interrupt_that_finds_no_stack_kills_only_its_task() {
    for n in 0..20 {
        let affinity = Affinity::One(CpuId(n % smp::count()));
        let task = Builder::new("has no stack").affinity(affinity);
        let death = task.spawn(wait_without_stack).expect("memory").join();
        let death = death.expect_err("it died");
        assert!(
            death.message().contains("overflow of the stack"),
            "{death:?}"
        );
    }
    threads::on_all_cpus(|_| sched::sleep_ns(5_000_000)); // all still take interrupts
    shootdown::flush_all(); // and messages
}

/// Moves the stack pointer to where too little is left, and waits for an interrupt.
fn wait_without_stack() {
    const ROOM: usize = 512;
    let rsp = sched::current_stack().start + ROOM;
    // SAFETY: the task ends here, so nobody misses its stack.
    unsafe { core::arch::asm!("mov rsp, {}", "2: pause", "jmp 2b", in(reg) rsp) }
}
